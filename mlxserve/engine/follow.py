"""The engine process of a worker: load this rank's layers, then stay in the relay loop."""

from __future__ import annotations

import contextlib
import gc
from queue import Empty
from typing import NoReturn

import mlx.core as mx
import msgspec

from mlxserve.config import Capacity, Settings
from mlxserve.engine.channel import EngineChannel
from mlxserve.engine.freed import FreedBuffers
from mlxserve.engine.messages import Progress
from mlxserve.engine.meter import SETTLED_SECONDS, Meter
from mlxserve.engine.parallel import await_choice
from mlxserve.engine.part import Part, load_part
from mlxserve.engine.processors import OwnProcessors
from mlxserve.engine.tracing import TraceSender, tell_time
from mlxserve.errors import RankLost, UserError
from mlxserve.models.folder import ModelSource
from mlxserve.models.progress import Report
from mlxserve.models.supply.choice import find_for_worker
from mlxserve.models.supply.taker import Taker
from mlxserve.pipeline.control import accept_invitation
from mlxserve.pipeline.conveyor import Conveyor
from mlxserve.pipeline.group import waits_asleep
from mlxserve.pipeline.identity import introduce
from mlxserve.pipeline.link import Capacities, Drain, Leave, Link, Loaded, LoadingNote, Message, Watch
from mlxserve.pipeline.relay import Relay, Traffic
from mlxserve.pipeline.tensor_ranks import TensorLoop, TensorPart
from mlxserve.pipeline.tensor_sums import TensorSums
from mlxserve.pipeline.trace import tracer_for
from mlxserve.pipeline.worker import RelayLoop


def follow(settings: Settings, channel: EngineChannel, group: mx.distributed.Group) -> NoReturn:
    """Serve as this worker until the process ends. Raises MlxserveError when serving is not possible (any more)."""
    place = settings.place
    link, line = accept_invitation(group, introduce(place))
    channel.show_life()
    meter = Meter()
    link.on_message = lambda message: tell_time(link, message) or _leave_when_told(message, channel)
    link.start(lambda reason: channel.end(RankLost.exit_code, reason))
    watch = Watch([link], meter, settings.silence_timeout)
    watch.start(lambda reason: channel.end(RankLost.exit_code, reason))
    channel.on_shutdown = lambda order: _ask_to_leave(link, place.rank) if order.exit_code == 0 else None
    channel.on_drain = lambda: _ask_to_drain(link, place.rank)
    channel.send(Progress("loading", settings.model or "a small random model"))
    ranks = _capacities(link)
    relay = Relay(group, waits_asleep(place))
    settings = msgspec.structs.replace(settings, parallel=await_choice(link, relay, place, settings.parallel))
    part = _load(settings, link, Taker(line), ranks, group)
    meter.loaded()
    meter.refresh(0, 0)
    link.send(meter.figures)
    if part.files:
        channel.at_end.append(part.files.close)
    link.send(part.said)
    channel.send(Progress("warming", "its layers are loaded"))
    if tracer := tracer_for(settings.trace):
        TraceSender(tracer, link).start()
    loop: RelayLoop | TensorLoop
    counts: Conveyor | TensorPart
    traffic: Traffic = relay
    if settings.parallel == "tensor":
        traffic = sums = TensorSums(group)
        counts = TensorPart(part.loaded.stage, sums, tracer)
        loop = TensorLoop(counts)
    else:
        loop = RelayLoop(part.loaded.stage, relay, place.rank, part.loaded.split, link, tracer)
        counts = loop.conveyor
    gc.collect()
    gc.freeze()  # what is loaded now stays: collections need not look at it again
    channel.loaded()
    freed, processors = FreedBuffers(), OwnProcessors(place)
    while True:
        try:
            message = link.receive(timeout=SETTLED_SECONDS)
        except Empty:
            meter.refresh(counts.busy_seconds, counts.tokens, traffic)
            message = link.receive()
        with meter.working():
            loop.carry_out(message)
        meter.refresh(counts.busy_seconds, counts.tokens, traffic)
        freed.give_back()
        processors.look()


def _capacities(link: Link) -> list[Capacity]:
    """What each rank has, as rank 0 tells it to all."""
    told = link.receive()
    if not isinstance(told, Capacities):
        raise RankLost(f"{link.peer} said {told} instead of what each rank has")
    return told.ranks


def _load(settings: Settings, link: Link, taker: Taker, ranks: list[Capacity], group: mx.distributed.Group) -> Part:
    def report(text: str) -> None:
        link.send(LoadingNote(text))

    def find(model: str, report: Report) -> ModelSource:
        return find_for_worker(model, taker, settings.place.rank if settings.keep_weights else None, report)

    try:
        return load_part(settings, report, find=find, ranks=ranks, group=group)
    except UserError as error:
        link.send(Loaded(str(error), error.exit_code))
        link.receive()  # asleep until rank 0, which tells every rank the reason, ends this one
        raise


def _leave_when_told(message: Message, channel: EngineChannel) -> bool:
    if isinstance(message, Leave):
        channel.decide(message.exit_code, message.reason)
        channel.end(message.exit_code, message.reason)
    return False


def _ask_to_drain(link: Link, rank: int) -> None:
    """Let rank 0 end the server as soon as its answers have ended; where it is gone, the link's own end follows."""
    with contextlib.suppress(RankLost):
        link.send(Drain(f"rank {rank} was asked to end"))


def _ask_to_leave(link: Link, rank: int) -> None:
    """Let the whole server end: rank 0 tells everybody, this rank too."""
    with contextlib.suppress(RankLost):
        link.send(Leave(f"rank {rank} was asked to end"))
        link.ended.wait(2.0)
