"""The engine process of rank 0: load, greet the workers, then schedule until told to end."""

from __future__ import annotations

import threading
from typing import NoReturn

import mlx.core as mx

from mlxserve.config import Settings
from mlxserve.engine.channel import EngineChannel
from mlxserve.engine.context import context_length
from mlxserve.engine.messages import (
    Cancel,
    Command,
    Failed,
    Figures,
    ModelFound,
    Progress,
    RankFacts,
    Ready,
    Submit,
)
from mlxserve.engine.meter import Meter, Rates
from mlxserve.engine.scheduler import Limits, Scheduler
from mlxserve.engine.sequence import Sequence
from mlxserve.engine.warmup import warm_up
from mlxserve.errors import RankLost, UserError
from mlxserve.models.source import find_model
from mlxserve.pipeline.control import Worker, dismiss, invite
from mlxserve.pipeline.identity import introduce
from mlxserve.pipeline.link import Hello, Leave, Loaded, LoadingNote, Message, Watch
from mlxserve.pipeline.loading import load_source
from mlxserve.pipeline.pipeline import ManyRanks, OneRank, Pipeline
from mlxserve.pipeline.relay import Relay


def lead(settings: Settings, channel: EngineChannel, group: mx.distributed.Group | None) -> NoReturn:
    """Serve as rank 0 until the process ends. Raises MlxserveError when serving is not possible (any more)."""
    team = Team(channel, settings)
    try:
        if group is not None:
            team.assemble(group)
        pipeline, ready = _load(settings, channel, group, team)
    except UserError as error:
        team.dismiss(Leave(f"rank 0: {error}", error.exit_code))
        raise
    team.show(ready.ranks)
    channel.send(ready)
    _serve(Scheduler(pipeline, _limits(settings)), pipeline, channel, team, ready)


class Team:
    """All ranks as rank 0 sees them: itself, and the workers at the other ends of the links."""

    def __init__(self, channel: EngineChannel, settings: Settings) -> None:
        self._channel = channel
        self._settings = settings
        self._facts: list[RankFacts] = []
        self._rates = [Rates() for _ in range(settings.place.world_size)]
        self._leaving = threading.Event()
        self.workers: list[Worker] = []
        self.meter = Meter()

    def assemble(self, group: mx.distributed.Group) -> None:
        """Open the links to all workers and watch over them. Raises RankLost, UserError if versions differ."""
        self.workers = invite(group, self._settings.place)
        for worker in self.workers:
            worker.on_message = lambda message, worker=worker: self._take_note(worker, message)  # type: ignore[misc]
            worker.start(self._lost)
        self._channel.on_shutdown = lambda: self.dismiss(Leave("the server ends"))
        watch = Watch(list(self.workers), lambda: self.meter.figures, self._settings.silence_timeout)
        watch.start(self._lost, self._report)
        _require_same_versions(introduce(0), [worker.hello for worker in self.workers])

    def await_loaded(self) -> bool:
        """Wait until every worker has its layers. Returns whether all can batch. Raises UserError if one cannot."""
        batchable = True
        for worker in self.workers:
            answer = worker.receive()
            if not isinstance(answer, Loaded):
                raise RankLost(f"{worker.peer} said {answer} instead of having loaded")
            if answer.error:
                raise UserError(f"{worker.peer}: {answer.error}")
            batchable = batchable and answer.batchable
        return batchable

    def facts(self, split: list[range]) -> list[RankFacts]:
        """Every rank, without figures."""
        hellos = [introduce(0), *(worker.hello for worker in self.workers)]
        return [
            RankFacts(hello.rank, hello.host, hello.pid, hello.device, calls.start, calls.stop - 1, 0)
            for hello, calls in zip(hellos, split, strict=True)
        ]

    def show(self, facts: list[RankFacts]) -> None:
        """From now on, tell the node about these ranks once a second while their figures change."""
        self._facts = facts
        if not self.workers:
            Watch([], lambda: self.meter.figures, self._settings.silence_timeout).start(self._lost, self._report)

    def current(self, facts: list[RankFacts]) -> list[RankFacts]:
        """`facts` with the figures of this moment."""
        figures = [self.meter.figures, *(worker.figures for worker in self.workers)]
        return [rates.facts(one, beat) for rates, one, beat in zip(self._rates, facts, figures, strict=True)]

    def dismiss(self, leave: Leave) -> None:
        """Let every worker end."""
        self._leaving.set()
        dismiss(self.workers, leave)

    def _report(self) -> None:
        if self._facts:
            now = self.current(self._facts)
            if now != self._facts:
                self._facts = now
                self._channel.send(Figures(now))

    def _take_note(self, worker: Worker, message: Message) -> bool:
        if isinstance(message, LoadingNote):
            self._channel.send(Progress("loading", f"{worker.peer}: {message.text}"))
            return True
        if isinstance(message, Leave):
            self.dismiss(Leave(message.reason))
            self._channel.end(0, message.reason)
        return False

    def _lost(self, reason: str) -> None:
        if not self._leaving.is_set():
            self._channel.end(RankLost.exit_code, reason)


def _load(
    settings: Settings, channel: EngineChannel, group: mx.distributed.Group | None, team: Team
) -> tuple[Pipeline, Ready]:
    channel.send(Progress("loading", settings.model))
    source = find_model(settings.model, lambda text: channel.send(Progress("loading", text)))
    channel.send(ModelFound(str(source.folder)))
    loaded = load_source(source, settings, lambda text: channel.send(Progress("loading", text)))
    batchable = team.await_loaded() and loaded.batchable
    pipeline: Pipeline
    if group is None:
        pipeline = OneRank(loaded.stage, batchable)
    else:
        pipeline = ManyRanks(loaded.stage, Relay(group), loaded.split, list(team.workers), batchable)
    channel.send(Progress("warming", "the first pass through all layers"))
    vocabulary = warm_up(pipeline)
    team.meter.refresh(pipeline.busy_seconds, pipeline.tokens)
    ready = Ready(
        model_type=loaded.trace.model_type,
        vocab_size=vocabulary,
        context_length=settings.context_length or context_length(source.config),
        backend=settings.place.backend if group is not None else "none",
        layers=len(loaded.trace.layer_of_call),
        batched=pipeline.batchable,
        ranks=team.current(team.facts(loaded.split)),
    )
    return pipeline, ready


def _serve(scheduler: Scheduler, pipeline: Pipeline, channel: EngineChannel, team: Team, ready: Ready) -> NoReturn:
    """Step while there is something to do, sleep on the pipe while there is not."""
    while True:
        while not scheduler.busy or not channel.commands.empty():
            _obey(channel.commands.get(), scheduler, channel, ready)
        step = scheduler.step()
        team.meter.refresh(pipeline.busy_seconds, pipeline.tokens)
        if step.tokens or step.reading:
            channel.send(step)


def _obey(command: Command, scheduler: Scheduler, channel: EngineChannel, ready: Ready) -> None:
    match command:
        case Submit():
            if refusal := _refusal(command, ready):
                channel.send(Failed(command.id, refusal))
            else:
                scheduler.add(Sequence.of(command))
        case Cancel():
            scheduler.cancel(command.id)


def _refusal(submit: Submit, ready: Ready) -> str:
    """Why this sequence cannot be taken on; the engine trusts nothing."""
    if not submit.prompt or submit.max_tokens < 1:
        return "a prompt and a bound on new tokens of at least one token each are needed"
    if len(submit.prompt) + submit.max_tokens > ready.context_length:
        return f"{len(submit.prompt)} + {submit.max_tokens} tokens exceed the context of {ready.context_length}"
    if not all(0 <= token < ready.vocab_size for token in submit.prompt):
        return f"a token of the prompt is outside the vocabulary of {ready.vocab_size}"
    return ""


def _require_same_versions(own: Hello, others: list[Hello]) -> None:
    for other in others:
        for name, version in own.versions.items():
            if other.versions.get(name) != version:
                raise UserError(
                    f"rank {other.rank} ({other.host}) runs {name} {other.versions.get(name)}, rank 0 ({own.host}) "
                    f"{version}: install the same on every machine."
                )


def _limits(settings: Settings) -> Limits:
    return Limits(settings.decode_concurrency, settings.prompt_concurrency, settings.prefill_step_size)
