"""Where requests come in: each gets an id, which its answer carries in the header X-Request-Id."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mlxserve.api.traffic.account import Account

OWN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
"""What a client may call its request."""


class Arrival:
    """Passes requests on, each as an exchange that the account knows."""

    def __init__(self, app: ASGIApp, account: Account) -> None:
        self._app = app
        self._account = account

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = Headers(scope=scope).get("x-request-id", "")
        exchange = self._account.arrive(scope["method"], scope["path"], wanted if OWN_ID.fullmatch(wanted) else "")
        scope.setdefault("state", {})["exchange"] = exchange
        header = (b"x-request-id", exchange.id.encode())

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        try:
            await self._app(scope, receive, tell)
        finally:
            self._account.leave(exchange)
