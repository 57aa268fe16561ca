"""Servers that tests share, one for each number of ranks, started when first asked for; and who runs which tests."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from mlxserve.engine import blas
from tests.system.server import Server, start

if library := blas.to_preload():
    ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)  # for what tests compute in this process, where MLX comes later

Shared = Callable[[int], Server]

PAGE = "tests/page/"
LONG = (PAGE, "tests/pipeline/", "tests/system/")
"""Where some files take minutes."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--parallel", default="pipeline", help="how the ranks that are killed, or cut off, divide the model"
    )


class BySharing(LoadScopeScheduling):
    """One process has all tests of a file, or of the page: they share what they start.

    This is what `--dist loadgroup` is for, whose marks get lost: pytest-xdist 3.8 writes them into ids that pytest 9.2
    no longer looks at.
    """

    def _split_scope(self, nodeid: str) -> str:
        return PAGE if nodeid.startswith(PAGE) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> BySharing:
    return BySharing(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so as not to end last."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))


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
