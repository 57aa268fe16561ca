"""Who may ask: whoever sends one of the keys; without keys everybody."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mlxserve.api.client import set_key
from mlxserve.api.errors import ApiError, refused

OPEN = frozenset({"/", "/health", "/livez", "/v1/health", "/v1/livez"})
"""Told to anybody: the page, which asks with a key itself, and whether the server is well."""
OPEN_FOLDER = "/dashboard/"


class KeyCheck:
    """Passes requests on that carry a key, as OpenAI's clients send it or as Anthropic's do; answers others with 401.

    Keys are compared by their digests, all of them, so that the time taken tells nothing of them.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        self._app = app
        self._digests = [_digest(key) for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or is_open(scope["path"]):
            return await self._app(scope, receive, send)
        if known := self._known(Headers(scope=scope)):
            set_key(scope, known[0])
            return await self._app(scope, receive, send)
        error = ApiError(
            401,
            "This server asks for an API key, and this request carries none that it knows: "
            "send it as 'Authorization: Bearer KEY' or as 'x-api-key: KEY'.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )
        return await refused(Request(scope), error)(scope, receive, send)

    def _known(self, headers: Headers) -> list[bytes]:
        """The digests of the known keys among those that are offered."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        offered = [bearer.strip()] if scheme.lower() == "bearer" else []
        digests = [_digest(key) for key in (*offered, headers.get("x-api-key", "").strip())]
        return [known for one in digests for known in self._digests if hmac.compare_digest(one, known)]


def is_open(path: str) -> bool:
    """Whether `path` is answered without a key."""
    return path in OPEN or path.startswith(OPEN_FOLDER)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
