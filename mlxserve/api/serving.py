"""What the endpoints share: the engine, the settings, and the tokenizer as soon as there is one."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from anyio import CapacityLimiter, to_thread
from starlette.requests import Request

from mlxserve.api.errors import RETRY_AFTER, ApiError
from mlxserve.api.traffic.account import Account
from mlxserve.config import Settings
from mlxserve.engine.client import EngineClient
from mlxserve.engine.messages import Ready
from mlxserve.errors import UserError
from mlxserve.text.generation import Generation, Task
from mlxserve.text.tokenizer import Tokenizer, import_mlx_lm, load_tokenizer

T = TypeVar("T")

SMALL_BODY = 8192
"""Bytes of a request up to which its chat is encoded so fast that no other request notices."""
NEWCOMERS = 2
"""How many times as many may wait before a client is refused that has nothing here."""


class Serving:
    """Belongs to the node's event loop, as the engine client does."""

    def __init__(self, engine: EngineClient, settings: Settings, keep_alive: float, body_limit: int) -> None:
        self.engine = engine
        self.settings = settings
        self.keep_alive = keep_alive
        """Seconds of silence after which a stream gets a comment."""
        self.body_limit = body_limit
        """Bytes."""
        self.names = settings.model_names or (derived_name(settings),)
        """What clients may call the model; answers carry the first."""
        self.created = int(time.time())
        self.account = Account(engine, settings.log_prompts)
        self.tokenizer: Tokenizer | None = None
        self.tokenizer_error = ""
        self.generations: WeakValueDictionary[int, Generation] = WeakValueDictionary()
        """By number, the oldest first; those that are `open` are under way."""
        self.slots: dict[int, int] = {}
        """The generations that /slots has shown, by their places there."""
        self._numbers = count(1)
        self._encoding = CapacityLimiter(2)

    @property
    def name(self) -> str:
        """The model's name in answers."""
        return self.names[0]

    async def load_tokenizer(self, failed: Callable[[UserError], None], loaded: Callable[[], None]) -> None:
        """Wait until the engine has found the model, then load its tokenizer; tell how that went."""
        await self.engine.works()  # what cannot load MLX there would end this process, too
        import_mlx_lm()
        folder = Path(await self.engine.model_folder())
        try:
            self.tokenizer = await to_thread.run_sync(load_tokenizer, folder, self.settings.chat_template)
            self.account.tokenizer = self.tokenizer
        except UserError as error:
            self.tokenizer_error = str(error)
            failed(error)
        else:
            loaded()

    def require_ready(self) -> tuple[Tokenizer, Ready]:
        """What a request needs; 503 if a part of it is not there."""
        _, reason = self.status()
        ready = self.engine.health.ready
        if not self.takes_requests or self.tokenizer is None or ready is None:
            message = f"The model is not being served now: {reason}."
            raise ApiError(503, message, code="engine_not_ready", headers=RETRY_AFTER)
        return self.tokenizer, ready

    def require_room(self, client: str) -> tuple[Tokenizer, Ready]:
        """What a new generation for `client` needs. Raises ApiError: 503 as `require_ready`, 429 where too many wait.

        Who has nothing here yet is taken on where others are not: one client's requests alone keep nobody out.
        """
        tokenizer, ready = self.require_ready()
        at_once = self.settings.decode_concurrency if ready.batched else 1
        unfinished = self._unfinished()
        waiting = len(unfinished) - at_once
        most = self.settings.max_queue * (1 if client in unfinished else NEWCOMERS)
        if waiting < most:
            return tokenizer, ready
        status, reason = self.status()
        if status == "recovering":
            message = f"The model is not being served now, and {waiting} answers wait for it: {reason}."
            raise ApiError(503, message, code="engine_not_ready", headers=RETRY_AFTER)
        message = f"{waiting} answers wait to be generated already: ask again later."
        raise ApiError(429, message, code="queue_full", headers=RETRY_AFTER)

    @property
    def takes_requests(self) -> bool:
        """Whether new requests are answered, now or when an engine that was lost is replaced."""
        ends = self.tokenizer_error or self.engine.draining_since
        return self.tokenizer is not None and not ends and self.engine.takes_requests

    def _unfinished(self) -> list[str]:
        """The client of each answer that the engine works on, or will.

        Not of those that are complete, and only their clients have not taken all yet.
        """
        coming = [one.task.client for one in self.generations.values() if not one.open and not one.over]
        return coming + self.engine.clients

    def status(self) -> tuple[str, str]:
        """The engine's status and its reason, or the tokenizer's where the engine is well."""
        if self.tokenizer_error:
            return "degraded", self.tokenizer_error
        if self.engine.draining_since:
            return "draining", "the server ends as soon as the answers that have begun are complete"
        if self.engine.serves and self.tokenizer is None:
            return "loading", "the tokenizer is being loaded"
        return self.engine.health.status, self.engine.health.reason

    def generation(self, tokenizer: Tokenizer, task: Task) -> Generation:
        """One that is ready to run, and seen in /slots while it does."""
        generation = Generation(self.engine, tokenizer, task)
        self.generations[next(self._numbers)] = generation
        return generation

    async def in_thread(self, prepare: Callable[[], T], body_size: int) -> T:
        """What `prepare` returns, called by a thread if the request is long; two at a time."""
        if body_size <= SMALL_BODY:
            return prepare()
        return await to_thread.run_sync(prepare, limiter=self._encoding)


def serving_of(request: Request) -> Serving:
    """The one that `create_app` made."""
    serving: Serving = request.app.state.serving
    return serving


def derived_name(settings: Settings) -> str:
    """The model's name where none is set: a file's or folder's own name, or the hub id."""
    path = Path(settings.model).expanduser()
    if settings.model.endswith(".gguf"):
        return path.stem
    return path.resolve().name if path.is_dir() else settings.model.partition("@")[0]
