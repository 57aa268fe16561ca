"""What a stream costs and keeps, whatever the engine's steps and the client's pace are."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from mlxserve.engine.messages import NewToken, Step
from mlxserve.protocol import HEAD_LIMIT

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

BODY = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}


async def test_tokens_that_one_step_brings_are_one_event(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = None
    steps = ["The capital", " of France", " is Paris"]
    async with http.stream("POST", "/v1/chat/completions", json=BODY) as answer:
        number = (await engine.submitted.get()).id
        lines = answer.aiter_lines()
        for text in steps:
            tokens = plain.encode(text)
            assert len(tokens) > 1
            engine.client.receive(Step([NewToken(number, token) for token in tokens], []))
            assert await _next_content(lines) == text


async def test_a_client_that_reads_slowly_gets_the_whole_answer_in_fewer_events(
    base: str, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = None
    tokens = plain.encode(" jumps over the lazy dog") * 4000
    host, port = base.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
    reader, writer = await asyncio.open_connection(sock=connection, limit=2**25)
    body = json.dumps(BODY).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    writer.transport.pause_reading()
    writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
    number = (await engine.submitted.get()).id
    for token in tokens:
        engine.say(number, token)
        await asyncio.sleep(0)
    engine.say(number, 0, finish="stop")
    writer.transport.resume_reading()
    contents = list(_contents((await reader.read()).decode()))
    writer.close()
    assert "".join(contents) == plain.decode(tokens).removeprefix(" ")
    assert len(contents) < len(tokens)


async def test_a_head_without_an_end_is_refused(base: str) -> None:
    reader, writer = await asyncio.open_connection(*base.removeprefix("http://").split(":"))
    writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Endless: ")
    writer.write(b"x" * HEAD_LIMIT)
    answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"too long" in answer


async def test_a_long_body_after_a_short_head_is_no_long_head(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    for _ in range(2):  # on one connection
        message = {"role": "user", "content": "x" * 3 * HEAD_LIMIT}
        answer = await http.post("/v1/chat/completions", json={"messages": [message]})
        assert answer.json()["error"]["code"] == "context_length_exceeded"


async def _next_content(lines: AsyncIterator[str]) -> str:
    async for line in lines:
        for content in _contents(line):
            return content
    raise AssertionError("the stream ended")


def _contents(stream: str) -> Iterator[str]:
    """The pieces of text, an event each."""
    for line in stream.splitlines():
        if line.startswith("data: {"):
            for choice in json.loads(line[6:])["choices"]:
                if content := choice["delta"].get("content"):
                    yield content
