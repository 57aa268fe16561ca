"""The HTTP front of rank 0: uvicorn on the node's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import Callable, Iterator

import uvicorn

from mlxserve.api.app import create_app
from mlxserve.config import Settings
from mlxserve.engine.client import EngineClient
from mlxserve.errors import UserError
from mlxserve.keys import keys_of
from mlxserve.protocol import bounded

_CLOSE_SECONDS = 1
_BACKLOG = 2048


class Front:
    """Binds the port, serves until stopped."""

    def __init__(self, client: EngineClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        _check_certificate(settings)
        keys_of(settings)  # may raise: better now than when the port is bound
        self._listener = _bind(settings.host, settings.port)
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where a browser finds the server."""
        host, port = self._listener.getsockname()[:2]
        shown = "localhost" if host in ("0.0.0.0", "::", "127.0.0.1", "::1") else host
        scheme = "https" if self._settings.ssl_certfile else "http"
        return f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}"

    async def start(self, failed: Callable[[UserError], None]) -> None:
        """Serve from now on. `failed` is told if no request can ever be answered."""
        app = create_app(self._client, self._settings, failed=failed, loaded=_settle)
        config = uvicorn.Config(
            app,
            http=bounded(self._settings.max_connections),
            ws="none",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_CLOSE_SECONDS,
            server_header=False,
            ssl_certfile=self._settings.ssl_certfile or None,
            ssl_keyfile=self._settings.ssl_keyfile or None,
        )
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve([self._listener]))

    async def stop(self) -> None:
        """Close all connections; open answers get a moment to say that they end."""
        if self._server and self._serving:
            self._server.should_exit = True
            await self._serving
        self._listener.close()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the node."""
        yield


def _settle() -> None:
    """What is loaded now stays: collections need not look at it again, which would hold all streams up."""
    gc.collect()
    gc.freeze()


def _check_certificate(settings: Settings) -> None:
    """Load certificate and key as uvicorn will. Raises UserError."""
    certificate, key = settings.ssl_certfile, settings.ssl_keyfile
    if key and not certificate:
        raise UserError("--ssl-keyfile is given without --ssl-certfile: name the certificate too")
    if not certificate:
        return

    def ask() -> str:
        raise UserError(f"the private key in {key or certificate} is locked by a password: give one that is not")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key or None, ask)
    except OSError as error:
        fit = "they are not a certificate in PEM format and the private key that belongs to it"
        raise UserError(
            f"--ssl-certfile {certificate} and {f'--ssl-keyfile {key}' if key else 'the key in it'} cannot be used: "
            f"{fit if isinstance(error, ssl.SSLError) else error.strerror}"
        ) from error


def _bind(host: str, port: int) -> socket.socket:
    """Raises UserError if the port cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise UserError(
            f"cannot listen at {host}:{port}: {error.strerror or error}. "
            "Is another server running there? Choose another with --port."
        ) from error
