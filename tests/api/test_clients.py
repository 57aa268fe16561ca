"""Whom a request comes from, as the engine is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from mlxserve.api.client import network
from mlxserve.config import Settings

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
REQUESTS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES, "n": 2},
    "/v1/completions": {"prompt": ["Hi", "Ho"]},
    "/v1/responses": {"input": "Hi"},
    "/v1/messages": {"model": "", "messages": MESSAGES, "max_tokens": 5},
}
with_keys = pytest.mark.parametrize("settings", [Settings(model="tiny", api_keys=("sk-one", "sk-two"))])
each_api = pytest.mark.parametrize("path", REQUESTS)


@pytest.fixture
async def elsewhere(base: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client at another address."""
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with httpx.AsyncClient(base_url=base, transport=transport, timeout=10) as client:
        yield client


async def _client(http: httpx.AsyncClient, engine: ScriptedEngine, path: str, **headers: str) -> str:
    """What the engine is told of who sends this."""
    answer = await http.post(
        path, json=REQUESTS[path], headers={name.replace("_", "-"): headers[name] for name in headers}
    )
    assert answer.status_code == 200, answer.text
    told = {engine.submitted.get_nowait().client for _ in range(engine.submitted.qsize())}
    assert len(told) == 1, "all answers to a request belong to one client"
    return told.pop()


@each_api
async def test_without_keys_it_is_the_address(
    http: httpx.AsyncClient, elsewhere: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    assert await _client(http, engine, path) == "127.0.0.1"
    assert await _client(elsewhere, engine, path) == "127.0.0.2"


async def test_a_key_that_nobody_asks_for_makes_nobody_another(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    path = "/v1/chat/completions"
    assert await _client(http, engine, path, authorization="Bearer anything") == "127.0.0.1"


async def test_behind_a_proxy_on_this_machine_it_is_the_address_that_the_proxy_tells(
    http: httpx.AsyncClient, elsewhere: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    path = "/v1/chat/completions"
    assert await _client(http, engine, path, x_forwarded_for="203.0.113.7") == "203.0.113.7"
    assert await _client(elsewhere, engine, path, x_forwarded_for="203.0.113.7") == "127.0.0.2"
    assert len(await _client(http, engine, path, x_forwarded_for="x" * 9000)) <= 64


@with_keys
@each_api
async def test_with_keys_it_is_the_key_wherever_it_is_used_but_not_in_clear(
    http: httpx.AsyncClient, elsewhere: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    first = await _client(http, engine, path, authorization="Bearer sk-one")
    assert first == await _client(elsewhere, engine, path, x_api_key="sk-one")
    assert first == await _client(http, engine, path, x_api_key="sk-one", authorization="Bearer made-up")
    assert first != await _client(http, engine, path, authorization="Bearer sk-two")
    assert "sk-one" not in first
    assert len(first) <= 24


def test_an_ipv6_address_is_as_good_as_its_neighbours() -> None:
    assert network("2001:db8:1:2:aaaa::1") == network("2001:db8:1:2:bbbb:ffff::2") == "2001:db8:1:2::/64"
    assert network("2001:db8:1:3::1") != network("2001:db8:1:2::1")
    assert network("fe80::1%eth0") == "fe80::/64"
    assert network("::ffff:192.0.2.1") == network("192.0.2.1") == "192.0.2.1"
    assert network("unix socket") == "unix socket"


async def test_a_new_engine_is_told_the_same(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.script = None
    path = "/v1/chat/completions"
    asking = asyncio.ensure_future(http.post(path, json=REQUESTS[path]))
    before = await engine.submitted.get()
    engine.client.lost("rank 1 fell silent")
    engine.script = [65]
    engine.connect()
    engine.become_ready()
    assert (await asking).status_code == 200
    again = [engine.submitted.get_nowait() for _ in range(engine.submitted.qsize())][-1]
    assert again.client == before.client != ""
