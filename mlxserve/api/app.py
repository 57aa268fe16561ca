"""The application: its routes, and what begins and ends with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route

from mlxserve.api.borders import borders
from mlxserve.api.endpoints import ENDPOINTS, routes
from mlxserve.api.errors import EXCEPTION_HANDLERS
from mlxserve.api.openapi import description
from mlxserve.api.page import PageFiles, page
from mlxserve.api.responses.store import Store
from mlxserve.api.serving import Serving
from mlxserve.api.traffic.arrival import Arrival
from mlxserve.config import Settings
from mlxserve.engine.client import EngineClient
from mlxserve.errors import UserError
from mlxserve.keys import keys_of

log = logging.getLogger("mlxserve.api")

KEEP_ALIVE = 4.0
"""Seconds: clients were seen to give up after five."""
BODY_LIMIT = 32 * 2**20


def _log_failure(error: UserError) -> None:
    log.error("%s", error)


def create_app(
    engine: EngineClient,
    settings: Settings,
    *,
    failed: Callable[[UserError], None] = _log_failure,
    loaded: Callable[[], None] = lambda: None,
    keep_alive: float = KEEP_ALIVE,
    body_limit: int = BODY_LIMIT,
) -> Starlette:
    """The application, for the event loop that `engine` belongs to.

    Its lifespan loads the tokenizer as soon as the engine has found the model; until then requests get 503. `failed`
    is called if that cannot be done, so that no request will ever be answered; else `loaded`. Raises UserError if no
    keys can be read.
    """
    serving = Serving(engine, settings, keep_alive, body_limit)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(serving.load_tokenizer(failed, loaded))
        keeping = asyncio.create_task(serving.account.history.keep(serving.account.sample))
        yield
        loading.cancel()
        keeping.cancel()
        app.state.responses.close()

    app = Starlette(
        routes=[*_api(settings), Route("/", page), _page_files()],
        middleware=[Middleware(Arrival, account=serving.account), *borders(settings)],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # to an address made of the header Host, which may be nonsense
    app.state.serving = serving
    app.state.responses = Store()
    return app


def _api(settings: Settings) -> list[Route]:
    """The table's addresses; some clients leave their prefix out."""
    described = Route("/openapi.json", description(ENDPOINTS, locked=bool(keys_of(settings))))
    return [*routes("/v1"), *routes(""), described]


def _page_files() -> Mount:
    return Mount("/dashboard", PageFiles())
