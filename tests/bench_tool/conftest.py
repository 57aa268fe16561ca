"""The server of tests/api, whose engine the test scripts, and servers that only break."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.api.conftest import anyio_backend, base, engine, folder, plain, serve, settings

__all__ = ["anyio_backend", "base", "engine", "folder", "plain", "serve", "settings"]

Answering = Callable[[bytes], bytes]
Rough = Callable[..., str]


@pytest.fixture
def rough() -> Iterator[Rough]:
    """Serves whatever bytes `answer` gives for a request's bytes, then closes the connection; returns the address."""
    with ExitStack() as servers:
        yield lambda answer: servers.enter_context(_rough(answer))


def chunk(text: str) -> bytes:
    """An event of a stream with `text`."""
    return b'data: {"choices": [{"delta": {"content": "%s"}}]}\n\n' % text.encode()


def sse(*events: bytes, status: str = "200 OK", kind: str = "text/event-stream") -> bytes:
    """A whole answer whose end is the connection's."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n"
    return head.encode() + b"".join(events)


@contextmanager
def _rough(answer: Answering) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        threading.Thread(target=_serve, args=(listening, answer), daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)


def _serve(listening: socket.socket, answer: Answering) -> None:
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return
        threading.Thread(target=_answer, args=(connection, answer), daemon=True).start()


def _answer(connection: socket.socket, answer: Answering) -> None:
    with connection, connection.makefile("rb") as incoming:
        request = incoming.readline()
        length = 0
        while (line := incoming.readline()).strip():
            name, _, value = line.partition(b":")
            request += line
            length = int(value) if name.lower() == b"content-length" else length
        connection.sendall(answer(request + incoming.read(length)))


@pytest.fixture
def interrupts() -> Iterator[None]:
    """The command takes over Ctrl-C; afterwards it is as it was."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)
