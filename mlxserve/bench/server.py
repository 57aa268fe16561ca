"""A server with OpenAI's API, as the load sees it: asked, and what came back noted down with the time it came."""

from __future__ import annotations

import json
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mlxserve.errors import UserError

TIMEOUT = 300.0
"""Seconds without a byte after which an answer counts as stuck."""
ATTEMPTS = 6
"""How often a connection that was refused or reset before the answer began is tried, as clients do."""
FIRST_PAUSE = 0.02
PIECE = 65_536


class Exchange(msgspec.Struct):
    """One request: when it was sent, and every piece of the answer's body with the time it came."""

    sent: float
    status: int = 0
    kind: str = ""
    """The answer's content type."""
    pieces: list[tuple[float, bytes]] = []
    error: str = ""
    retries: int = 0


class Server:
    """Where requests go: `url` with or without the /v1 at its end. Raises UserError for what is no such address."""

    def __init__(self, url: str, api_key: str = "", timeout: float = TIMEOUT) -> None:
        self.url = (url if "://" in url else f"http://{url}").rstrip("/").removesuffix("/v1")
        parts = urlsplit(self.url)
        try:
            self._host, self._port = parts.hostname or "", parts.port
        except ValueError:
            self._host = ""
        if parts.scheme not in ("http", "https") or not self._host or parts.query or parts.fragment:
            raise UserError(f"{url!r} is no address of a server, such as http://localhost:8100")
        self._secure = parts.scheme == "https"
        self._path = parts.path
        self._timeout = timeout
        self._headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def ask(self, body: bytes) -> Exchange:
        """Send a chat completion's `body` and read the answer to its end; what fails is in the exchange's `error`."""
        exchange = Exchange(time.perf_counter())
        pause = FIRST_PAUSE
        while self._try(body, exchange) and exchange.retries < ATTEMPTS - 1:
            exchange.retries += 1
            exchange.error = ""
            time.sleep(pause)
            pause *= 2
        return exchange

    def models(self) -> list[str]:
        """The names under which models are served; none where the server does not tell. Raises UserError."""
        connection = self._connection()
        try:
            connection.request("GET", f"{self._path}/v1/models", headers=self._headers)
            response = connection.getresponse()
            told = json.loads(response.read())
            return [str(model["id"]) for model in told["data"]]
        except OSError as error:
            raise UserError(f"{self.url} cannot be reached: {error.strerror or error}; is the server up?") from error
        except (HTTPException, ValueError, KeyError, TypeError):
            return []
        finally:
            connection.close()

    def _try(self, body: bytes, exchange: Exchange) -> bool:
        """One attempt. Returns whether another may help: the connection was lost before the answer began."""
        connection = self._connection()
        try:
            connection.request("POST", f"{self._path}/v1/chat/completions", body, self._headers)
            response = connection.getresponse()
            exchange.status, exchange.kind = response.status, response.headers.get_content_type()
            while piece := response.read1(PIECE):
                exchange.pieces.append((time.perf_counter(), piece))
        except (OSError, HTTPException) as error:
            exchange.error = _told(error)
            return exchange.status == 0 and isinstance(error, ConnectionError)
        finally:
            connection.close()
        return False

    def _connection(self) -> HTTPConnection:
        kind: Any = HTTPSConnection if self._secure else HTTPConnection
        connection: HTTPConnection = kind(self._host, self._port, timeout=self._timeout)
        return connection


def _told(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError):
        return f"connection lost: {error.strerror or error}"
    return " ".join(f"broken HTTP: {type(error).__name__} {error}".split())
