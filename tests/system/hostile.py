"""What clients do that mean no good, or know no better: each a few lines over a bare socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass

from tests.system.server import Server

LEAST_BUFFER = 2048
SMALL_SEGMENTS = 536
"""Bytes. The server's kernel takes many segments into its buffer before it makes a sender wait."""
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class Bad:
    """A request as bytes, and what it is answered with."""

    sent: bytes
    status: int
    told: bytes
    """A part of the answer's body."""


def post(body: bytes, path: str = CHAT) -> bytes:
    """A whole request."""
    return head(len(body), path) + body


def head(length: int, path: str = CHAT) -> bytes:
    """What comes before a body of `length` bytes."""
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n".encode()


def saying(text: bytes) -> bytes:
    """A chat with one message."""
    return b'{"messages":[{"role":"user","content":"' + text + b'"}]}'


BAD = {
    "ten megabytes of words": Bad(post(saying(b"word " * 2 * 2**20)), 400, b"context_length_exceeded"),
    "ten megabytes of nothing": Bad(post(b" " * 10 * 2**20), 400, b"invalid_json"),
    "more than the limit": Bad(post(saying(b"a" * 2**25)), 413, b"body_too_large"),
    "opening brackets": Bad(post(b"[" * 100_000), 400, b"invalid_type"),
    "brackets within": Bad(post(b'{"x":' + b"[" * 100_000), 400, b"nested too deeply"),
    "invalid UTF-8": Bad(post(saying(b"\xff\xfe")), 400, b"invalid_json"),
    "a lone surrogate": Bad(post(saying(b"\\ud800")), 400, b"invalid_json"),
    "long headers": Bad(b"GET /livez HTTP/1.1\r\nX: " + b"a" * 66_000, 400, b"head is too long"),
    "many headers": Bad(b"GET /livez HTTP/1.1\r\n" + b"X: a\r\n" * 11_000, 400, b"head is too long"),
    "another protocol": Bad(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 3, 400, b"Invalid HTTP request"),
    "an unknown address": Bad(post(b"{}", "/v1/nothing"), 404, b"unknown_url"),
    "a wrong method": Bad(b"DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 405, b"method_not_allowed"),
    "another host": Bad(b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, b"host_not_allowed"),
}


async def check(server: Server, name: str) -> None:
    """Send one of BAD. Raises AssertionError unless it is answered as it should be."""
    bad = BAD[name]
    status, body = await answer_to(server, bad.sent)
    assert status == bad.status, f"{name}: {status} {body[:300]!r}"
    assert bad.told in body, f"{name}: {body[:300]!r}"


async def answer_to(server: Server, sent: bytes) -> tuple[int, bytes]:
    """Status and body. The answer may come before all is sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(sent)
        return await answer(reader)
    finally:
        writer.transport.abort()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of what comes next."""
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 120)).lower()
    length = int(head.partition(b"content-length:")[2].split()[0])
    return int(head.split()[1]), await reader.readexactly(length)


async def idle(server: Server) -> None:
    """Connect, say nothing, and come again when hung up on."""
    while True:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            await reader.read()
        finally:
            writer.close()


class SlowReader:
    """Asks for much, and takes almost nothing of it."""

    def __init__(self, server: Server, tokens: int) -> None:
        """Each of the answer's `tokens` is some 2,000 bytes: with it are told the likeliest ones in its place."""
        body = {
            "messages": [{"role": "user", "content": "Tell me about the sea."}],
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "logprobs": True,
            "top_logprobs": 20,
        }
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, LEAST_BUFFER)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SMALL_SEGMENTS)
        self._socket.connect(("127.0.0.1", server.port))
        self._socket.sendall(post(json.dumps(body).encode()))
        self._socket.setblocking(False)

    def take(self, size: int) -> bytes:
        """So many bytes, or what there is."""
        with contextlib.suppress(BlockingIOError):
            return self._socket.recv(size)
        return b""

    def close(self) -> None:
        """Leave."""
        self._socket.close()


async def leave(server: Server, tokens: int = 500) -> None:
    """Ask for a long answer, and leave in the middle of it."""
    body = {"messages": [{"role": "user", "content": "Count to 1000."}], "max_tokens": tokens, "stream": True}
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(post(json.dumps(body).encode()))
        await asyncio.wait_for(reader.readuntil(b'"content":'), 120)
    finally:
        writer.transport.abort()


async def half(server: Server, sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a part of a request, and wait."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(sent)
    return reader, writer
