"""A server with OpenAI's API, somewhere: its address, its key, and what it says when asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mlxserve.errors import UserError

TIMEOUT = 300.0
"""Seconds without a byte after which an answer counts as stuck."""


class Refused(UserError):
    """The server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Remote:
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
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"

    def models(self) -> list[str]:
        """The names under which models are served; none where the server does not tell. Raises UserError."""
        try:
            return [str(model["id"]) for model in self.get("/v1/models")["data"]]
        except (Refused, KeyError, TypeError, ValueError):
            return []

    def model(self, wanted: str) -> str:
        """The model's name: the one that is `wanted`, or else served; empty where the server does not tell.

        Raises UserError where none is wanted and several are served.
        """
        served = self.models()
        if not wanted and len(served) > 1:
            raise UserError(f"{self.url} serves several models: choose with --model: {', '.join(served[:20])}")
        return wanted or (served[0] if served else "")

    def get(self, path: str) -> Any:
        """The JSON at `path`. Raises UserError, ValueError where it is no JSON."""
        with self.asked("GET", path) as response:
            content = response.read()
            if response.status != 200:
                raise Refused(response.status, f"{self.url}: status {response.status}: {message(content)}")
            return json.loads(content)

    @contextmanager
    def asked(self, method: str, path: str, body: bytes | None = None) -> Iterator[HTTPResponse]:
        """The answer to a request, its body still to be read. Raises UserError where the connection fails."""
        connection = self.connection()
        try:
            connection.request(method, f"{self._path}{path}", body, self._headers)
            yield connection.getresponse()
        except OSError as error:
            raise UserError(f"{self.url} cannot be reached: {error.strerror or error}; is the server up?") from error
        except HTTPException as error:
            said = " ".join(f"{type(error).__name__} {error}".split())
            raise UserError(f"{self.url} answers with broken HTTP: {said}") from error
        finally:
            connection.close()

    def connection(self) -> HTTPConnection:
        """A new one; not opened yet."""
        kind: Any = HTTPSConnection if self._secure else HTTPConnection
        connection: HTTPConnection = kind(self._host, self._port, timeout=self._timeout)
        return connection


def message(body: bytes) -> str:
    """The sentence in an error's body, or its beginning."""
    try:
        error = msgspec.json.decode(body)
        error = error.get("error", error)
        return str(error["message"] if isinstance(error, dict) and "message" in error else error)[:200]
    except (msgspec.DecodeError, AttributeError):
        return body[:200].decode(errors="replace").strip()
