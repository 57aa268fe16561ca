from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    nullcontext,
)
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
import uvicorn

from mlxserve.api.app import create_app
from mlxserve.config import Place, Settings
from mlxserve.protocol import bounded

from ..text.tokenizer_folder import write_tokenizer_folder
from .scripted_engine import ScriptedEngine

Serve = Callable[..., AbstractAsyncContextManager[str]]


class Server(uvicorn.Server):
    """Says when it has started, and leaves the test's signals alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()
        self.told_to_end = asyncio.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()

    async def main_loop(self) -> None:
        await self.told_to_end.wait()

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()


@pytest.fixture(scope="session")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """The event loop that the node runs on."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tokenizer_folder(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="session")
def plain(folder: Path) -> Any:
    """The transformers tokenizer itself, to make scripts with."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture
async def engine() -> ScriptedEngine:
    return ScriptedEngine()


@pytest.fixture
def settings() -> Settings:
    return Settings(model="mlx-community/Tiny-8bit", place=Place(0, 2))


@pytest.fixture
def serve(engine: ScriptedEngine) -> Serve:
    """A real server on a free port; yields its address."""

    @asynccontextmanager
    async def serving(settings: Settings, **options: Any) -> AsyncIterator[str]:
        app = create_app(engine.client, settings, **options)
        http = bounded(settings.max_connections)
        config = uvicorn.Config(app, port=0, http=http, log_level="warning", timeout_graceful_shutdown=1)
        server = Server(config)
        running = asyncio.create_task(server.serve())
        await server.up.wait()
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.told_to_end.set()
            await running

    return serving


@pytest.fixture
async def base(serve: Serve, engine: ScriptedEngine, settings: Settings, folder: Path) -> AsyncIterator[str]:
    """The address of a server that is ready."""
    async with serve(settings, keep_alive=0.02, body_limit=2**20) as address:
        engine.connect()
        engine.find_model(folder)
        engine.become_ready()
        async with httpx.AsyncClient(base_url=address) as http:
            while (await http.get("/health")).status_code != 200:  # the tokenizer is loading
                pass
        yield address


@pytest.fixture
async def http(base: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=base, timeout=10) as client:
        yield client


@pytest.fixture
async def client(base: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
async def claude(base: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=base, api_key="none", max_retries=0) as client:
        yield client
