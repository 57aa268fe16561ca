"""The node's side of the engine: open sequences, and what became of them."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from typing import Literal

import msgspec

from mlxserve.engine import messages
from mlxserve.engine.messages import FinishReason, Likelihood, PromptLikelihoods, RankFacts, Reading, Sampling
from mlxserve.errors import EngineError, EngineNotReady, RequestFailed

Status = Literal["loading", "healthy", "degraded"]


class Generated(msgspec.Struct, frozen=True):
    """Tokens that one step added to a sequence; `finish` is set on the last of them."""

    tokens: list[int]
    finish: FinishReason | None = None
    likelihoods: list[Likelihood] = []
    """One a token, where they were asked for."""


Progressed = Generated | Reading | PromptLikelihoods
"""What becomes of an open sequence."""


class Health(msgspec.Struct, frozen=True):
    """What is known of the engine at this moment. `since` is Unix time, in seconds."""

    status: Status = "loading"
    reason: str = "starting"
    since: float = msgspec.field(default_factory=time.time)
    ready: messages.Ready | None = None
    ranks: list[RankFacts] = []


class Inbox:
    """What one open sequence has not taken yet."""

    def __init__(self) -> None:
        self._events: deque[Progressed | EngineError] = deque()
        self._arrived = asyncio.Event()

    def put(self, event: Progressed | EngineError) -> None:
        """Add `event`."""
        self._events.append(event)
        self._arrived.set()

    async def get(self) -> Progressed | EngineError:
        """The next event, waited for; tokens that have come in one after the other are one event."""
        await self._arrived.wait()
        event = self._events.popleft()
        if isinstance(event, Generated) and self._events:
            event = self._with_later(event)
        if not self._events:
            self._arrived.clear()
        return event

    def _with_later(self, event: Generated) -> Generated:
        """`event` and the tokens right behind it: those of one step, or of several where the client reads slowly."""
        tokens, likelihoods, finish = list(event.tokens), list(event.likelihoods), event.finish
        while self._events and isinstance(later := self._events[0], Generated):
            tokens += later.tokens
            likelihoods += later.likelihoods
            finish = later.finish
            self._events.popleft()
        return Generated(tokens, finish, likelihoods)


class EngineClient:
    """Submits sequences to the engine process and hands each its events.

    Belongs to the node's event loop: every method is called there.
    """

    def __init__(self) -> None:
        self.health = Health()
        self._send: Callable[[messages.Command], None] | None = None
        self._open: dict[int, Inbox] = {}
        self._ids = itertools.count(1)
        self._model_folder: asyncio.Future[str] | None = None
        self._works = asyncio.Event()

    @property
    def open_sequences(self) -> int:
        """How many sequences wait or run."""
        return len(self._open)

    async def works(self) -> None:
        """Wait until an engine process has said something, which it does when MLX works in it."""
        await self._works.wait()

    async def model_folder(self) -> str:
        """The folder with the model's config and tokenizer, as soon as the engine has found it."""
        return await asyncio.shield(self._folder_found())

    async def generate(
        self,
        prompt: list[int],
        sampling: Sampling,
        max_tokens: int,
        stop_tokens: list[int],
        top_logprobs: int = -1,
        prompt_logprobs: bool = False,
        grammar: str = "",
        borders: list[int] | None = None,
    ) -> AsyncGenerator[Progressed, None]:
        """Generate from `prompt`; closing the iterator cancels the sequence. Tokens that wait come together.

        The arguments are those of messages.Submit. Raises EngineNotReady when no engine serves, RequestFailed when the
        engine drops this sequence.
        """
        if self._send is None or self.health.status != "healthy":
            raise EngineNotReady(f"the model is not being served: {self.health.reason}")
        number = next(self._ids)
        inbox = Inbox()
        self._open[number] = inbox
        finished = False
        try:
            wanted = (top_logprobs, prompt_logprobs, grammar, borders or [])
            self._send(messages.Submit(number, prompt, sampling, max_tokens, stop_tokens, *wanted))
            while not finished:
                event = await inbox.get()
                if isinstance(event, EngineError):
                    finished = True
                    raise event
                finished = isinstance(event, Generated) and event.finish is not None
                yield event
        finally:
            del self._open[number]
            if not finished and self._send is not None:
                self._send(messages.Cancel(number))

    def connected(self, send: Callable[[messages.Command], None]) -> None:
        """A new engine process is up; `send` reaches it."""
        self._send = send
        self.health = Health("loading", "the engine is starting")

    def lost(self, reason: str) -> None:
        """The engine process is gone: every open sequence is told so."""
        self._send = None
        self.health = Health("degraded", reason, ready=self.health.ready, ranks=self.health.ranks)
        for inbox in self._open.values():
            inbox.put(EngineNotReady(f"the engine was lost while it answered: {reason}"))

    def receive(self, event: messages.Event) -> None:
        """Take in one event from the engine process."""
        self._works.set()
        match event:
            case messages.Step():
                self._deliver(event)
            case messages.Failed():
                self._fail(event)
            case messages.Figures():
                self.health = msgspec.structs.replace(self.health, ranks=event.ranks)
            case messages.ModelFound():
                if not self._folder_found().done():
                    self._folder_found().set_result(event.folder)
            case messages.Progress():
                self.health = Health("loading", f"{event.stage} {event.detail}".strip(), self.health.since)
            case messages.Ready():
                self.health = Health("healthy", "", ready=event, ranks=event.ranks)
            case messages.Ended():
                self.health = Health("degraded", event.message, ranks=self.health.ranks)

    def _deliver(self, step: messages.Step) -> None:
        for reading in step.reading:
            if inbox := self._open.get(reading.id):
                inbox.put(reading)
        for likelihoods in step.prompts:
            if inbox := self._open.get(likelihoods.id):
                inbox.put(likelihoods)
        for new in step.tokens:
            if inbox := self._open.get(new.id):
                inbox.put(Generated([new.token], new.finish, [new.likelihood] if new.likelihood else []))
        for failed in step.failed:
            self._fail(failed)

    def _fail(self, failed: messages.Failed) -> None:
        if inbox := self._open.get(failed.id):
            inbox.put(RequestFailed(failed.message))

    def _folder_found(self) -> asyncio.Future[str]:
        if self._model_folder is None:
            self._model_folder = asyncio.get_running_loop().create_future()
        return self._model_folder
