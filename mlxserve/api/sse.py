"""Server-sent events, by hand: headers at once, comments while there is nothing to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from mlxserve.api.departure import ClientGone, while_connected

HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}


class EventStream(Response):
    """Sends `events`, which are encoded already, as they come, and closes them as soon as the client leaves."""

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncGenerator[bytes, None], comment: Callable[[], str], keep_alive: float, ping: bytes = b""
    ) -> None:
        """After `keep_alive` silent seconds a line with `comment()`, which clients skip, and `ping` are sent."""
        self.status_code = 200
        self.background = None
        self.init_headers(HEADERS)
        self._events = events
        self._comment = comment
        self._keep_alive = keep_alive
        self._ping = ping
        self._last_sent = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        commenting = asyncio.create_task(self._send_comments(send))
        try:
            await while_connected(receive, self._send_events(send))
        except ClientGone:
            return
        finally:
            commenting.cancel()
        await send({"type": "http.response.body", "body": b""})

    async def _send_events(self, send: Send) -> None:
        now = asyncio.get_running_loop().time
        async with aclosing(self._events) as events:
            async for event in events:
                self._last_sent = now()
                await send({"type": "http.response.body", "body": event, "more_body": True})

    async def _send_comments(self, send: Send) -> None:
        now = asyncio.get_running_loop().time
        self._last_sent = now()
        while True:
            await asyncio.sleep(self._last_sent + self._keep_alive - now())
            if now() - self._last_sent >= self._keep_alive:
                self._last_sent = now()
                comment = f": {self._comment()}\n\n".encode() + self._ping
                await send({"type": "http.response.body", "body": comment, "more_body": True})
