"""Clients that begin and do not go on, or that do not take what they asked for."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import pytest

from mlxserve import protocol
from mlxserve.api import body

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

SOON = 0.3
BODY = json.dumps({"messages": [{"role": "user", "content": "Hi"}], "stream": True}).encode()
HEAD = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", SOON)
    monkeypatch.setattr(protocol, "STALL_SECONDS", SOON)
    monkeypatch.setattr(body, "BODY_SECONDS", SOON)


async def _connected(base: str, limit: int = 2**16) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = base.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**14)
    return await asyncio.open_connection(sock=connection, limit=limit)


async def test_who_says_nothing_is_hung_up_on(base: str) -> None:
    reader, writer = await _connected(base)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_half_a_head_is_refused(base: str) -> None:
    reader, writer = await _connected(base)
    writer.write(HEAD[:40])
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"did not come in within 0.3 s" in answer
    writer.close()


async def test_half_a_head_after_a_whole_request_is_refused(base: str) -> None:
    reader, writer = await _connected(base)
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert await reader.readuntil(b'{"status":"alive"}')
    writer.write(HEAD[:40])
    assert b"did not come in" in await asyncio.wait_for(reader.read(), 5)
    writer.close()


async def test_half_a_body_is_408(base: str) -> None:
    reader, writer = await _connected(base)
    writer.write(HEAD + BODY[:10])
    answer = await asyncio.wait_for(reader.read(), 5)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body_too_late" in answer
    writer.close()


async def test_who_takes_nothing_of_an_answer_is_cut_off_and_nobody_else(
    base: str, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = None
    _, writer = await _connected(base)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(HEAD + BODY)
    number = (await engine.submitted.get()).id
    (token,) = plain.encode("a")[:1]
    while engine.cancelled.empty():
        engine.say(number, token)  # an event each: tokens that come together are told together
        await asyncio.sleep(0)
    assert await engine.cancelled.get() == number
    writer.close()


async def test_who_takes_a_little_now_and_then_gets_everything(base: str, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = None
    reader, writer = await _connected(base, limit=2**12)
    writer.write(HEAD.replace(b"Host", b"Connection: close\r\nHost") + BODY)
    number = (await engine.submitted.get()).id
    (token,) = plain.encode("a")[:1]
    for _ in range(2000):
        engine.say(number, token)
        await asyncio.sleep(0)
    engine.say(number, 0, finish="stop")
    answer = b""
    while piece := await reader.read(2**14):
        answer += piece
        await asyncio.sleep(0.05)
    assert answer.count(b"data: [DONE]") == 1
    writer.close()
