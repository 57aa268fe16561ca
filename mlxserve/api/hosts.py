"""What web pages may reach: the server by its own names only, and pages of other sites only where they are allowed.

A browser lets any page send requests to this machine. By a name that its owner points here (DNS rebinding) a page even
reads the answers; without, it can still have the model work. Programs other than browsers are not concerned.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from mlxserve.api.errors import ApiError, refused

HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(:\d*)?")
"""The header Host: a name or address, and mostly a port."""
SITE = re.compile(r"https?://(?P<host>.*)|null", re.IGNORECASE)
"""The origins of the web's pages. Browser extensions and desktop programs have others, which no page can send."""


def allowed_names(host: str, more: Collection[str]) -> frozenset[str] | None:
    """The names, beside loopback ones, that a server bound to `host` may be called by; None: any.

    Other machines reach a server that is not bound to a loopback address by names that it cannot know.
    """
    if "*" in more or not (more or is_loopback(host)):
        return None
    return frozenset(name.lower() for name in (host, *more))


def is_loopback(name: str) -> bool:
    """Whether `name` is this machine's whoever resolves it."""
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return name.lower() == "localhost"


class HostCheck:
    """Answers requests for another host than a loopback one or `names` with 403."""

    def __init__(self, app: ASGIApp, names: frozenset[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        hosts = Headers(scope=scope).getlist("host") if scope["type"] == "http" else []
        if all(self._is_own(host) for host in hosts):
            return await self._app(scope, receive, send)
        message = f"This server is not {hosts[0]!r}: ask for localhost, or start it with --allowed-host."
        error = ApiError(403, message, code="host_not_allowed")
        return await refused(Request(scope), error)(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        found = HOST.fullmatch(host)
        return found is not None and (is_loopback(found["name"]) or found["name"].lower() in self._names)


class OriginCheck:
    """Answers what pages of other sites than `origins` and the server's own send with 403."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        origin = headers.get("origin", "")
        site = SITE.fullmatch(origin)
        own = site is None or (site["host"] or "").lower() == headers.get("host", "").lower() != ""
        if own or origin.lower() in self._origins:
            return await self._app(scope, receive, send)
        message = f"Pages of {origin!r} may not ask this server: start it with --cors-origin to allow it."
        error = ApiError(403, message, code="origin_not_allowed")
        return await refused(Request(scope), error)(scope, receive, send)
