"""How many connections there may be, and what the others are told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource

import httpx
import pytest

from mlxserve import protocol
from mlxserve.config import Settings

pytestmark = pytest.mark.anyio

MOST = 5
ASK = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def settings() -> Settings:
    return Settings(model="tiny", max_connections=MOST)


async def _connected(base: str) -> Connection:
    host, port = base.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def _served(connection: Connection) -> bool:
    """Whether a request there is answered as it should be; else the connection is closed with 503."""
    reader, writer = connection
    writer.write(ASK)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    if head.startswith(b"HTTP/1.1 200 "):
        return await reader.readuntil(b'{"status":"alive"}') != b""
    assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert b"\r\nretry-after: 2\r\n" in head.lower()
    assert b"\r\nconnection: close\r\n" in head.lower()
    error = json.loads(await asyncio.wait_for(reader.read(), 5))["error"]
    assert (error["type"], error["code"]) == ("server_error", "too_many_connections")
    assert f"{MOST} connections" in error["message"]
    return False


async def _fill(base: str) -> list[Connection]:
    """As many idle connections as there may be."""
    open = [await _connected(base) for _ in range(MOST)]
    for connection in open:
        assert await _served(connection)
    return open


@pytest.fixture(autouse=True)
def one_that_says_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 60.0)


async def test_one_above_the_limit_is_told_so_and_closed_and_those_that_are_there_stay(base: str) -> None:
    open = await _fill(base)
    assert not await _served(await _connected(base))
    for connection in open:
        assert await _served(connection)
    for _, writer in open:
        writer.close()


async def test_a_client_that_leaves_makes_room_for_another(base: str) -> None:
    open = await _fill(base)
    open.pop()[1].close()
    while not await _served(another := await _connected(base)):
        pass  # the server has not seen yet that it left
    for _, writer in [*open, another]:
        writer.close()


async def test_one_that_is_refused_is_told_so_before_it_asks(base: str) -> None:
    open = await _fill(base)
    reader, writer = await _connected(base)
    assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 503 ")
    for _, each in [*open, (reader, writer)]:
        each.close()


async def test_one_that_is_refused_and_stays_is_closed_soon(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 0.1)
    open = await _fill(base)
    _, writer = await _connected(base)
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(5):
            while True:
                writer.write(ASK)
                await writer.drain()
                await asyncio.sleep(0.01)
    for _, each in open:
        each.close()


async def test_of_very_many_that_are_refused_few_are_kept_for_a_moment(
    base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LINGER_SECONDS", 60.0)
    monkeypatch.setattr(protocol, "MOST_LINGERING", 2)
    open = await _fill(base)
    refused = [await _connected(base) for _ in range(4)]
    told = await asyncio.gather(*(reader.read() for reader, _ in refused), return_exceptions=True)
    assert [bool(isinstance(one, bytes) and one) for one in told] == [True, True, False, False]
    for _, writer in [*open, *refused]:
        writer.close()


@pytest.mark.parametrize("settings", [Settings(model="tiny")])
async def test_by_default_a_thousand_are_served(base: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # mlx_lm, once imported, has lowered it
    open = [await _connected(base) for _ in range(1000)]
    async with httpx.AsyncClient(base_url=base) as http:
        assert (await http.get("/livez")).status_code == 200
    for _, writer in open:
        writer.close()
