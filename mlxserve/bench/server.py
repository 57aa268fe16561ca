"""A server with OpenAI's API, as the load sees it: asked, and what came back noted down with the time it came."""

from __future__ import annotations

import time
from http.client import HTTPException

import msgspec

from mlxserve.remote import Remote

ATTEMPTS = 6
"""How often a connection that was refused or reset before the answer began is tried, as clients do."""
FIRST_PAUSE = 0.02
PIECE = 65_536
STREAM = {"Accept": "text/event-stream"}


class Exchange(msgspec.Struct):
    """One request: when it was sent, and every piece of the answer's body with the time it came."""

    sent: float
    status: int = 0
    kind: str = ""
    """The answer's content type."""
    pieces: list[tuple[float, bytes]] = []
    error: str = ""
    retries: int = 0


class Server(Remote):
    """Where the load goes."""

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

    def _try(self, body: bytes, exchange: Exchange) -> bool:
        """One attempt. Returns whether another may help: the connection was lost before the answer began."""
        connection = self.connection()
        try:
            connection.request("POST", f"{self._path}/v1/chat/completions", body, {**self._headers, **STREAM})
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


def _told(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, OSError):
        return f"connection lost: {error.strerror or error}"
    return " ".join(f"broken HTTP: {type(error).__name__} {error}".split())
