"""Servers that one test has for itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.hosts import REPOSITORY, Bed, two_minis
from tests.system.interrupted import QUESTIONS
from tests.system.question import Answer, ask_at_once
from tests.system.server import Server, start


@pytest.fixture
def own() -> Iterator[Callable[[Server], Server]]:
    """Takes a test's own server, so that nothing of it outlives the test."""
    servers: list[Server] = []

    def keep(server: Server) -> Server:
        servers.append(server)
        return server

    yield keep
    for one in servers:
        one.close()


@pytest.fixture(scope="session")
def plain() -> Iterator[Server]:
    """The demo model over two ranks without what makes answers faster: nothing is stored, nothing is guessed."""
    server = start(2, "--prefix-cache-bytes", "0", "--speculation", "off", "--decode-concurrency", "64")
    server.wait_until("healthy")
    yield server
    server.close()


@pytest.fixture(scope="session")
def expected(plain: Server) -> list[Answer]:
    """The answers to those questions that are asked while something dies, when nothing does."""
    return ask_at_once(plain, QUESTIONS)


@pytest.fixture(scope="session")
def binary() -> Path:
    """The one file that `make binary` makes."""
    path = REPOSITORY / "dist" / "mlxserve"
    assert path.is_file(), f"{path} is not there: run `make binary`"
    return path


@pytest.fixture(scope="module")
def minis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Two hosts without Python, joined by a cable, and a client with Python; shared by the tests of a module."""
    with two_minis(tmp_path_factory.mktemp("minis")) as bed:
        yield bed
