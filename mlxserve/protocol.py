"""HTTP as the node speaks it: uvicorn's, by httptools, with a bound on what comes before a body."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_LIMIT = 64 * 2**10
"""Bytes, plus what one read brings. uvicorn has such a bound for h11 alone."""


class BoundedHead(HttpToolsProtocol):
    """Refuses requests whose head does not end: it is kept in memory until it does."""

    _head_size = 0
    _past_head = False
    """Whether this read brought the end of a head, or a part of a body."""

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._past_head = False
        super().data_received(data)
        self._head_size = 0 if self._past_head else self._head_size + len(data)
        if self._head_size > HEAD_LIMIT and not self.transport.is_closing():
            self.send_400_response("The request's head is too long.")

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._past_head = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self._past_head = True
        super().on_body(body)
