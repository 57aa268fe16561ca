"""The application: its routes, and what begins and ends with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from mlxserve.api.chat import create_chat_completion
from mlxserve.api.errors import EXCEPTION_HANDLERS
from mlxserve.api.health import health
from mlxserve.api.models import list_models, retrieve_model
from mlxserve.api.page import FOLDER, page
from mlxserve.api.serving import Serving
from mlxserve.config import Settings
from mlxserve.engine.client import EngineClient
from mlxserve.errors import UserError

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
    keep_alive: float = KEEP_ALIVE,
    body_limit: int = BODY_LIMIT,
) -> Starlette:
    """The application, for the event loop that `engine` belongs to.

    Its lifespan loads the tokenizer as soon as the engine has found the model; until then requests get 503. `failed`
    is called if that cannot be done: no request will ever be answered.
    """
    serving = Serving(engine, settings, keep_alive, body_limit)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(serving.load_tokenizer(failed))
        yield
        loading.cancel()

    app = Starlette(
        routes=[*_api("/v1"), *_api(""), Route("/health", health), Route("/", page), _page_files()],
        middleware=[Middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])],
        exception_handlers=EXCEPTION_HANDLERS,
        lifespan=lifespan,
    )
    app.state.serving = serving
    return app


def _api(prefix: str) -> list[Route]:
    """OpenAI's routes; some clients leave the prefix out."""
    return [
        Route(f"{prefix}/chat/completions", create_chat_completion, methods=["POST"]),
        Route(f"{prefix}/models", list_models),
        Route(f"{prefix}/models/{{name:path}}", retrieve_model),
    ]


def _page_files() -> Mount:
    return Mount("/dashboard", StaticFiles(directory=FOLDER))
