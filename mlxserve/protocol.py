"""HTTP as the node speaks it: uvicorn's, by httptools, with bounds on what clients may leave undone.

There may be so many connections, a request's head must end soon, in bytes and in seconds, and who is sent an answer
must take it.
"""

from __future__ import annotations

import asyncio
import logging

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from mlxserve.api.errors import RETRY_AFTER, ApiError

log = logging.getLogger("mlxserve.api")

HEAD_LIMIT = 64 * 2**10
"""Bytes, plus what one read brings. uvicorn has such a bound for h11 alone."""
HEAD_SECONDS = 30.0
"""In which a head must come in, and a new connection say something."""
STALL_SECONDS = 60.0
"""In which a client that has left much of its answer lying must take some of it."""
LINGER_SECONDS = 1.0
"""In which a client that is refused may read why; a connection that is closed on unread bytes tells it nothing."""
MOST_LINGERING = 64
"""Connections above the limit that are given so much time."""


def bounded(most_connections: int) -> type[BoundedHead]:
    """The protocol of a server that has at most so many connections."""
    return type("Bounded", (BoundedHead,), {"most_connections": most_connections})


class BoundedHead(HttpToolsProtocol):
    """Refuses connections above a limit and requests whose head does not end, and drops clients that do not read."""

    most_connections = 2048
    _refused = False
    _head_size = 0
    _past_head = False
    """Whether this read brought the end of a head, or a part of a body."""
    _late: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self._refuse()
        else:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._have_head()
        self._take_again()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._refused:
            return
        self._past_head = False
        super().data_received(data)
        self._head_size = 0 if self._past_head else self._head_size + len(data)
        if self._head_size and self._late is None:
            self._await_head()
        if self._head_size > HEAD_LIMIT and not self.transport.is_closing():
            self.send_400_response("The request's head is too long.")

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._past_head = True
        self._have_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._past_head = True
        super().on_body(body)

    def pause_writing(self) -> None:
        """See asyncio.Protocol: much of an answer has not been taken."""
        super().pause_writing()
        self._watch_taking(self._left)

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._take_again()
        super().resume_writing()

    @property
    def _left(self) -> int:
        """Bytes that the client has not taken."""
        return self.transport.get_write_buffer_size()

    def _refuse(self) -> None:
        """Answer with 503 whatever will be asked, and close."""
        self._refused = True
        log.info("a connection is refused: there are %d", self.most_connections)
        if len(self.connections) > self.most_connections + MOST_LINGERING:
            self.transport.abort()
            return
        self.transport.write(_too_many(self.most_connections))
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._late = self.loop.call_later(LINGER_SECONDS, self.transport.close)
        else:
            self.transport.close()

    def _await_head(self) -> None:
        self._late = self.loop.call_later(HEAD_SECONDS, self._too_late)

    def _have_head(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _too_late(self) -> None:
        if self._head_size and not self.transport.is_closing():
            self.send_400_response(f"The request's head did not come in within {HEAD_SECONDS:g} s.")
        self.transport.close()

    def _watch_taking(self, left: int) -> None:
        self._stalled = self.loop.call_later(STALL_SECONDS, self._look_again, left)

    def _take_again(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _look_again(self, before: int) -> None:
        """Nobody can be told whose connection takes no bytes: it is cut."""
        if self._left < before:
            self._watch_taking(self._left)
            return
        log.info("a client is cut off that has taken nothing of its answer for %g s", STALL_SECONDS)
        self.transport.abort()


def _too_many(connections: int) -> bytes:
    message = f"This server has {connections} connections already: ask again later."
    error = ApiError(503, message, code="too_many_connections", headers=RETRY_AFTER)
    response = error.response()
    headers = [*response.raw_headers, (b"connection", b"close")]
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    return STATUS_LINE[error.status] + lines + b"\r\n" + bytes(response.body)
