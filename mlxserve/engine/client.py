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
from mlxserve.engine.work import Work
from mlxserve.errors import EngineError, EngineNotReady, RequestCancelled, RequestFailed

Status = Literal["loading", "healthy", "recovering", "degraded"]

EVERYBODY = -1
"""In the place of a rank's number."""


class Generated(msgspec.Struct, frozen=True):
    """Tokens that one step added to a sequence; `finish` is set on the last of them."""

    tokens: list[int]
    finish: FinishReason | None = None
    likelihoods: list[Likelihood] = []
    """One a token, where they were asked for."""


Progressed = Generated | Reading | PromptLikelihoods
"""What becomes of an open sequence."""


class Health(msgspec.Struct, frozen=True):
    """What is known of the engine at this moment. `since` is when it came into this status: Unix time, in seconds."""

    status: Status = "loading"
    reason: str = "starting"
    since: float = 0.0
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


class Open:
    """A sequence that somebody waits for: what was asked, and what has come of it, whichever engine it came from."""

    def __init__(self, submit: messages.Submit) -> None:
        self.inbox = Inbox()
        self._submit = submit
        self._answered: list[int] = []
        self._of_prompt = 0
        self._repeated = 0
        self._over = False

    @property
    def client(self) -> str:
        """Who asked, as messages.Submit has it."""
        return self._submit.client

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it; only its client has not taken all yet."""
        return self._over

    def again(self) -> messages.Submit:
        """What a new engine is to do: go on where the last one stopped."""
        self._repeated = self._of_prompt
        return msgspec.structs.replace(self._submit, answered=list(self._answered))

    def generated(self, new: messages.NewToken) -> None:
        """Its next token."""
        self._answered.append(new.token)
        self._over = new.finish is not None
        self.inbox.put(Generated([new.token], new.finish, [new.likelihood] if new.likelihood else []))

    def told(self, prompt: PromptLikelihoods) -> None:
        """The next tokens of its prompt: a new engine tells them from the beginning."""
        repeated = min(self._repeated, len(prompt.likelihoods))
        self._repeated -= repeated
        if new := prompt.likelihoods[repeated:]:
            self._of_prompt += len(new)
            self.inbox.put(PromptLikelihoods(prompt.id, new))

    def fail(self, error: EngineError) -> None:
        """It has come to nothing."""
        self._over = True
        self.inbox.put(error)


class EngineClient:
    """Submits sequences to the engine process and hands each its events.

    When the engine is lost, sequences stay open, and the next one goes on with them, unless it takes too long to come.
    Belongs to the node's event loop: every method is called there.
    """

    def __init__(self, recover_seconds: float = 120.0) -> None:
        self.health = Health(since=time.time())
        self._recover_seconds = recover_seconds
        self._giving_up: asyncio.TimerHandle | None = None
        self._loss = ""
        """Why there must be another engine."""
        self._send: Callable[[messages.Command], None] | None = None
        self._serving = False
        """Whether the engine that `_send` reaches answers."""
        self._members: tuple[int, ...] = ()
        self._missing = ""
        self._open: dict[int, Open] = {}
        self._ids = itertools.count(1)
        self._model_folder: asyncio.Future[str] | None = None
        self._works = asyncio.Event()
        self._closed = asyncio.Event()
        self.work = Work()
        self.met: list[RankFacts] = []
        """The ranks of the engine that is there, as far as they are known, by their planned numbers."""
        self.notes: dict[int, str] = {}
        """What each rank does until the engine serves."""
        self.draining_since: float | None = None
        """The time since when no new requests are taken on, because the server ends when those it has are answered."""

    @property
    def serves(self) -> bool:
        """Whether an engine answers now."""
        return self._serving

    @property
    def takes_requests(self) -> bool:
        """Whether new sequences are answered, now or when an engine that was lost is replaced."""
        return self._serving or self.health.status == "recovering"

    @property
    def open_sequences(self) -> int:
        """How many sequences wait or run."""
        return len(self._open)

    @property
    def clients(self) -> list[str]:
        """Who waits for the engine: the client of each sequence that more is to come of."""
        return [sequence.client for sequence in self._open.values() if not sequence.over]

    async def quiet(self) -> None:
        """Wait until no sequence is open."""
        while self._open:
            self._closed.clear()
            await self._closed.wait()

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
        client: str = "",
        known: Callable[[int], None] = lambda number: None,
    ) -> AsyncGenerator[Progressed, None]:
        """Generate from `prompt`; closing the iterator cancels the sequence. Tokens that wait come together.

        The arguments are those of messages.Submit, but for `known`, which is told the number to `cancel` it by. While a
        lost engine may still come back this waits. Raises EngineNotReady when no engine serves, RequestFailed when the
        engine drops this sequence, RequestCancelled.
        """
        if not self.takes_requests:
            raise EngineNotReady(f"the model is not being served: {self.health.reason}")
        number = next(self._ids)
        wanted = (top_logprobs, prompt_logprobs, grammar, borders or [])
        submit = messages.Submit(number, prompt, sampling, max_tokens, stop_tokens, *wanted, client=client)
        sequence = self._open[number] = Open(submit)
        known(number)
        finished = False
        try:
            if self._serving:
                self._command(submit)
            while not finished:
                event = await sequence.inbox.get()
                if isinstance(event, EngineError):
                    finished = True
                    raise event
                finished = isinstance(event, Generated) and event.finish is not None
                yield event
        finally:
            del self._open[number]
            self._closed.set()
            if not finished:
                self._command(messages.Cancel(number))

    def cancel(self, number: int) -> None:
        """Free the sequence's place at once; whoever waits for it is told. Without effect on one that has ended."""
        if (sequence := self._open.get(number)) and not sequence.over:
            sequence.fail(RequestCancelled("it was cancelled by somebody who looks after this server"))
            self._command(messages.Cancel(number))

    def connected(
        self, send: Callable[[messages.Command], None], members: tuple[int, ...] = (), missing: str = ""
    ) -> None:
        """A new engine process is up; `send` reaches it.

        `members`: the planned ranks in its group, where they are not all; `missing`: who is not, in words.
        """
        self._send = send
        self._members = members
        self._missing = missing
        self._forget_ranks()
        self.work.begin()
        self.tell("the engine is starting")

    def lost(self, reason: str) -> None:
        """The engine process is gone: open sequences wait for the next one."""
        self._send = None
        self._forget_ranks()
        served, self._serving = self._serving, False
        if served:
            self._loss = reason
            self._be("recovering", reason)
            self._giving_up = asyncio.get_running_loop().call_later(self._recover_seconds, self._give_up)
        elif self.health.status == "recovering":
            self.tell(reason)
        else:
            self._loss = reason
            self._be("degraded", reason)

    def close(self, reason: str) -> None:
        """No engine will come any more: every open sequence is told so."""
        self._send = None
        self._serving = False
        self._recovered()
        self._loss = reason
        self._be("degraded", reason)
        self._fail_all(reason)

    def tell(self, doing: str) -> None:
        """Say what is being done until an engine serves, and of one that was lost the reason; the status stays."""
        known = [] if self.health.status == "loading" else [self._loss]
        self._be(self.health.status, "; ".join([*known, doing]))

    def receive(self, event: messages.Event) -> None:
        """Take in one event from the engine process."""
        self._works.set()
        match event:
            case messages.Step():
                self._deliver(event)
            case messages.Failed():
                self._fail(event)
            case messages.Figures():
                self.met = self._planned(event.ranks)
                self.work.told(event)
                self.health = msgspec.structs.replace(self.health, ranks=self.met)
            case messages.Introduced():
                self.met = self._planned(event.ranks)
                self.notes = {EVERYBODY: "loading"}
            case messages.ModelFound():
                if not self._folder_found().done():
                    self._folder_found().set_result(event.folder)
            case messages.Progress():
                self._note(event)
                self.tell(f"{event.stage} {event.detail}".strip())
            case messages.Ready():
                self._recovered()
                self._serving = True
                self.notes.clear()
                self.met = self._planned(event.ranks)
                self.health = msgspec.structs.replace(self.health, ready=event, ranks=self.met)
                if self._missing:
                    self._be("degraded", f"the model is served without {self._missing}")
                else:
                    self._be("healthy", "")
                for sequence in self._open.values():
                    if not sequence.over:
                        self._command(sequence.again())
            case messages.Ended():
                self._serving = False
                self._be("degraded", event.message)

    def _deliver(self, step: messages.Step) -> None:
        for reading in step.reading:
            if sequence := self._open.get(reading.id):
                sequence.inbox.put(reading)
        for likelihoods in step.prompts:
            if sequence := self._open.get(likelihoods.id):
                sequence.told(likelihoods)
        for new in step.tokens:
            if sequence := self._open.get(new.id):
                sequence.generated(new)
        for failed in step.failed:
            self._fail(failed)

    def _fail(self, failed: messages.Failed) -> None:
        if sequence := self._open.get(failed.id):
            sequence.fail(RequestFailed(failed.message))

    def _planned(self, ranks: list[RankFacts]) -> list[RankFacts]:
        """`ranks` of the group that has formed, by the numbers that were planned for them."""
        if not self._missing:
            return ranks
        return [
            msgspec.structs.replace(
                facts,
                rank=self._members[facts.rank],
                link=msgspec.structs.replace(facts.link, to=self._planned_number(facts.link.to)),
            )
            for facts in ranks
        ]

    def _planned_number(self, rank: int) -> int:
        return self._members[rank] if self._missing and 0 <= rank < len(self._members) else rank

    def _note(self, progress: messages.Progress) -> None:
        """What one rank does; what comes before and after loading all do together."""
        if progress.stage in ("meeting", "forming", "warming"):
            self.notes = {EVERYBODY: progress.detail or progress.stage}
        else:
            text = f"{progress.stage} {progress.note or progress.detail}".strip()
            self.notes[self._planned_number(progress.rank)] = text

    def _forget_ranks(self) -> None:
        self.met = []
        self.notes.clear()

    def _command(self, command: messages.Command) -> None:
        if self._send is not None:
            self._send(command)

    def _be(self, status: Status, reason: str) -> None:
        since = self.health.since if status == self.health.status else time.time()
        self.health = msgspec.structs.replace(self.health, status=status, reason=reason, since=since)

    def _recovered(self) -> None:
        if self._giving_up:
            self._giving_up.cancel()
            self._giving_up = None

    def _give_up(self) -> None:
        """The group has not come back in time: nobody waits any longer, and new requests are refused."""
        self._loss += f"; no group has formed within {self._recover_seconds:g} s"
        self._be("degraded", self._loss)
        self._fail_all(self._loss)

    def _fail_all(self, reason: str) -> None:
        for sequence in self._open.values():
            if not sequence.over:
                sequence.fail(EngineNotReady(f"the engine was lost while it answered: {reason}"))

    def _folder_found(self) -> asyncio.Future[str]:
        if self._model_folder is None:
            self._model_folder = asyncio.get_running_loop().create_future()
        return self._model_folder
