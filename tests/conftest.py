"""Servers that tests share: one for each number of ranks, started when first asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.server import Server, start

Shared = Callable[[int], Server]


PAGE = Path(__file__).parent / "page"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parallel", default="pipeline", help="how the ranks that are killed, or cut off, divide the model"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first. One process has all tests of a file, or of the page: they share what they start."""
    for item in items:
        of_page = item.path.is_relative_to(PAGE)
        item.add_marker(pytest.mark.xdist_group("page" if of_page else item.nodeid.partition("::")[0]))
        if of_page:
            item.add_marker("long")
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def shared() -> Iterator[Shared]:
    """A healthy server of the demo model over so many ranks. Tests must leave it so."""
    servers: dict[int, Server] = {}

    def server(ranks: int) -> Server:
        if ranks not in servers:
            servers[ranks] = start(ranks)
        servers[ranks].wait_until("healthy")
        return servers[ranks]

    yield server
    for one in servers.values():
        one.close()
