"""The engine process of rank 0: load, greet the workers, then schedule until told to end."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from typing import NoReturn

import mlx.core as mx
import msgspec

from mlxserve.config import Settings
from mlxserve.engine.assembly import Assembly
from mlxserve.engine.census import Census
from mlxserve.engine.channel import EngineChannel
from mlxserve.engine.check import report_lines, time_passes
from mlxserve.engine.context import context_length
from mlxserve.engine.desk import Desk, Order
from mlxserve.engine.draft_model import DraftModel
from mlxserve.engine.drafting import load_draft_model
from mlxserve.engine.freed import FreedBuffers
from mlxserve.engine.gathering import coming_together
from mlxserve.engine.memory import Ledger
from mlxserve.engine.messages import ModelFound, Paced, Progress, Ready, Step
from mlxserve.engine.meter import SETTLED_SECONDS
from mlxserve.engine.parallel import Choice, choose
from mlxserve.engine.part import Part, load_part, whole_model
from mlxserve.engine.prefix_record import PrefixRecord
from mlxserve.engine.processors import OwnProcessors
from mlxserve.engine.scheduler import Scheduler
from mlxserve.engine.team import Team
from mlxserve.engine.warmup import first_pace, measured, prove, warm_up
from mlxserve.errors import CheckFailed, DamagedData, UserError
from mlxserve.models.folder import ModelSource
from mlxserve.pipeline.group import waits_asleep
from mlxserve.pipeline.link import Chosen, Leave
from mlxserve.pipeline.pipeline import ManyRanks, OneRank, Pipeline
from mlxserve.pipeline.relay import Relay
from mlxserve.pipeline.selftest import RelayFindings
from mlxserve.pipeline.tensor_ranks import TensorPart, TensorRanks
from mlxserve.pipeline.tensor_sums import TensorSums
from mlxserve.pipeline.trace import tracer_for

logger = logging.getLogger("mlxserve.engine")

_PROOF_SECONDS = 30.0
"""Idleness after which all ranks show that they still compute."""


def lead(settings: Settings, channel: EngineChannel, group: mx.distributed.Group | None) -> NoReturn:
    """Serve as rank 0 until the process ends. Raises MlxserveError when serving is not possible (any more)."""
    team = Team(channel, settings)
    try:
        _lead(settings, channel, team, group)
    except (UserError, DamagedData) as error:
        team.dismiss(Leave(f"rank 0: {error}", error.exit_code))
        raise


def _lead(settings: Settings, channel: EngineChannel, team: Team, group: mx.distributed.Group | None) -> NoReturn:
    if group is not None:
        team.assemble(group)
    team.introduce()
    channel.show_life()
    team.watch()
    relay = Relay(group, waits_asleep(settings.place)) if group else None
    findings = team.check_relay(relay) if relay else []
    report = _reporter(channel)
    choice = choose(settings, group, findings, lambda: whole_model(settings, report))
    team.tell(Chosen(choice.mode))
    if settings.parallel == "auto":
        report(f"--parallel auto takes {choice.mode}: {choice.reason}")
    settings = msgspec.structs.replace(settings, parallel=choice.mode)
    report(settings.model or "a small random model")

    def found(source: ModelSource) -> None:
        channel.send(ModelFound(str(source.folder)))
        team.give(source, report)

    part = load_part(settings, report, found, ranks=team.capacities, group=group)
    team.meter.loaded()
    if part.files:
        channel.at_end.append(part.files.close)
    assembly = Assembly(settings, team.await_loaded(part.said))
    stage, split = part.loaded.stage, part.loaded.split
    if tracer := tracer_for(settings.trace):
        team.trace(tracer, settings.trace)
    if relay is None:
        pipeline: Pipeline = OneRank(stage, assembly.batchable, tracer)
    elif choice.mode == "tensor":
        assert group is not None
        sums = TensorSums(group)
        pipeline = TensorRanks(TensorPart(stage, sums, tracer), sums, list(team.workers), assembly.batchable)
    else:
        pipeline = ManyRanks(stage, relay, split, list(team.workers), assembly.batchable, tracer)
    _begin(assembly, channel, team, part, pipeline, findings, choice)


def _begin(
    assembly: Assembly,
    channel: EngineChannel,
    team: Team,
    part: Part,
    pipeline: Pipeline,
    findings: list[RelayFindings],
    choice: Choice,
) -> NoReturn:
    """Warm up, then serve, or check and end."""
    processors = OwnProcessors(assembly.settings.place)
    ledger = assembly.ledger()
    channel.send(Progress("warming", "the first pass through all layers"))
    ready = _ready(assembly, ledger, pipeline, part, team)
    if assembly.settings.task == "check":
        _check(channel, team, pipeline, ready, findings, choice)
    passes = measured(pipeline, tuple(map(len, part.loaded.split)), assembly.settings.place.passes)
    channel.send(Paced(passes))
    pace = first_pace(pipeline.depth, passes)
    before = mx.get_active_memory()
    if draft_model := _draft_model(assembly, part, ready, channel):
        team.meter.loaded()
        assembly = assembly.beside(mx.get_active_memory() - before)
        ledger = assembly.ledger()
        ready = msgspec.structs.replace(ready, context_length=min(ready.context_length, ledger.longest))
    prefixes = assembly.prefixes()
    record = assembly.resume(prefixes, part.files, pipeline) if prefixes is not None and part.files else None
    scheduler = assembly.scheduler(pipeline, pace, ledger, prefixes, draft_model)
    gc.collect()
    gc.freeze()  # what is loaded now stays: collections need not look at it again
    census = Census(scheduler, ledger, prefixes)
    census.take(at_rest=True)
    team.show(ready.ranks, census)
    channel.loaded()
    channel.send(ready)
    desk = Desk(scheduler, channel, ready, part.folder)
    _serve(desk, scheduler, pipeline, channel, team, census, record, processors)


def _check(
    channel: EngineChannel,
    team: Team,
    pipeline: Pipeline,
    ready: Ready,
    findings: list[RelayFindings],
    choice: Choice,
) -> NoReturn:
    """Print what was found, then end on every rank. Raises CheckFailed."""
    seconds = time_passes(pipeline)
    team.meter.refresh(pipeline.busy_seconds, pipeline.tokens, pipeline.relay)
    team.await_figures()
    try:
        for line in report_lines(team.current(ready.ranks), team.tokens(), findings, choice, seconds):
            print(line, flush=True)
    except CheckFailed as error:
        team.dismiss(Leave(str(error), error.exit_code))
        raise
    team.dismiss(Leave("the check is over"))
    channel.end(0, "")


def _reporter(channel: EngineChannel) -> Callable[[str], None]:
    return lambda text: channel.send(Progress("loading", text))


def _ready(assembly: Assembly, ledger: Ledger, pipeline: Pipeline, part: Part, team: Team) -> Ready:
    """Warm up, and say what is served."""
    settings = assembly.settings
    vocabulary = warm_up(pipeline)
    team.meter.refresh(pipeline.busy_seconds, pipeline.tokens, pipeline.relay)
    return Ready(
        model_type=part.loaded.trace.model_type,
        vocab_size=vocabulary,
        context_length=min(ledger.longest, _context_length(settings, part)),
        backend=settings.place.backend if team.workers else "none",
        layers=part.loaded.split[-1].stop,
        batched=pipeline.batchable,
        cuttable=assembly.cuttable,
        parallel=part.parallel,
        ranks=team.current(team.facts(part.loaded.split, part.loaded.expected_seconds)),
    )


def _context_length(settings: Settings, part: Part) -> int:
    """The model's, or what was asked for instead."""
    own, wanted = context_length(part.config), settings.context_length
    if wanted > own:
        logger.warning(
            "--ctx-size %d is more than the %d tokens that the model is made for: beyond those it may write nonsense",
            wanted,
            own,
        )
    return wanted or own


def _draft_model(assembly: Assembly, part: Part, ready: Ready, channel: EngineChannel) -> DraftModel | None:
    """The second model that was asked for. Raises UserError where it does not fit the first."""
    if not assembly.settings.draft_model:
        return None
    if not assembly.cuttable:
        raise UserError(
            f"--draft-model cannot be used with model type {ready.model_type!r}: guesses that turn out wrong cannot be "
            "taken out of its caches. Leave it out."
        )

    def report(text: str) -> None:
        channel.send(Progress("loading", f"draft model: {text}"))

    return load_draft_model(assembly.settings, part.folder, ready.vocab_size, report)


def _serve(
    desk: Desk,
    scheduler: Scheduler,
    pipeline: Pipeline,
    channel: EngineChannel,
    team: Team,
    census: Census,
    record: PrefixRecord | None,
    processors: OwnProcessors,
) -> NoReturn:
    """Step while there is something to do, sleep on the pipe while there is not."""
    nothing, freed, ended = Step([], []), FreedBuffers(), 0
    while True:
        if not scheduler.busy:
            since = time.monotonic()
            desk.take(_awaited(channel, pipeline, team, freed))
            for order in coming_together(channel.orders, ended, time.monotonic() - since):
                desk.take(order)
        while not channel.orders.empty():
            desk.take(channel.orders.get())
        with team.meter.working():
            step = scheduler.step()
        team.meter.refresh(pipeline.busy_seconds, pipeline.tokens, pipeline.relay)
        if step != nothing:
            channel.send(step)
        with team.meter.working():
            scheduler.go_on()
        ended = sum(new.finish is not None for new in step.tokens)
        census.take(at_rest=not scheduler.busy)
        if record:
            record.keep(idle=not scheduler.busy)
        freed.give_back()
        processors.look()


def _awaited(channel: EngineChannel, pipeline: Pipeline, team: Team, freed: FreedBuffers) -> Order:
    """The next order. While none comes all ranks compute now and then: one that cannot is found before it is needed."""
    with suppress(Empty):
        return channel.orders.get(timeout=SETTLED_SECONDS)
    team.meter.refresh(pipeline.busy_seconds, pipeline.tokens, pipeline.relay)
    while True:
        try:
            return channel.orders.get(timeout=_PROOF_SECONDS)
        except Empty:
            with team.meter.working():
                prove(pipeline)
            team.meter.refresh(pipeline.busy_seconds, pipeline.tokens, pipeline.relay)
            freed.give_back()
