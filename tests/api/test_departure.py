"""Clients that leave before their request is one: while they send it, and while its prompt is made."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import httpx
import pytest

from mlxserve.api import question

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

MESSAGES: Any = [{"role": "user", "content": "Hi"}]
BODY = json.dumps({"messages": MESSAGES}).encode()
each_way = pytest.mark.parametrize("stream", [False, True])


async def _stays_quiet(base: str, caplog: pytest.LogCaptureFixture) -> None:
    """The server goes on, and takes the departure for no failure of its own."""
    async with httpx.AsyncClient(base_url=base) as http:
        assert (await http.get("/health")).json()["open_requests"] == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"])
async def test_a_client_that_leaves_while_it_sends_its_request_asks_nothing(
    base: str, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    host, port = base.removeprefix("http://").split(":")
    for sent in (b"", BODY[:10]):
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + sent)
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    await _stays_quiet(base, caplog)
    assert engine.submitted.empty()


@each_way
async def test_a_client_that_leaves_while_its_prompt_is_made_is_not_answered(
    base: str, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, stream: bool
) -> None:
    """What has been begun by then is ended as soon as it is seen that nobody is there."""
    caplog.set_level(logging.INFO, "mlxserve.api")
    making, gone = asyncio.Event(), asyncio.Event()
    asked = question.asked

    async def slowly(*arguments: Any) -> Any:
        making.set()
        await gone.wait()
        return await asked(*arguments)

    engine.script = None
    monkeypatch.setattr(question, "asked", slowly)
    async with httpx.AsyncClient(base_url=base) as http:
        asking = asyncio.create_task(http.post("/v1/chat/completions", json={"messages": MESSAGES, "stream": stream}))
        await making.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    await asyncio.sleep(0.1)  # nothing tells a test that the server has seen it
    gone.set()
    async with asyncio.timeout(5):
        while "status=499" not in caplog.text:
            await asyncio.sleep(0.01)
    assert engine.submitted.qsize() == engine.cancelled.qsize()
    await _stays_quiet(base, caplog)
