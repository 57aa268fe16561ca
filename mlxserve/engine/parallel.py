"""Whether each rank takes whole layers or a share of every layer: what `--parallel auto` chooses, and why.

Rank 0 decides before anything is loaded, by the model, by how long a sum of hidden states took the ranks, and by how
long its own device needs for a layer, whose weights are zeros in this. It tells the workers, who wait for that.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import msgspec
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models.cache import make_prompt_cache

from mlxserve.config import Parallel, Place, Settings
from mlxserve.errors import RankLost, UserError
from mlxserve.pipeline.free_memory import room_bytes
from mlxserve.pipeline.link import Chosen, Link
from mlxserve.pipeline.model_trace import RAISED_BY_MODELS, Trace, trace_model
from mlxserve.pipeline.plan import Item, Open
from mlxserve.pipeline.relay import Relay
from mlxserve.pipeline.selftest import RelayFindings, RelayTimes, TimeRelay, exchange_patterns
from mlxserve.pipeline.slots import Walk, install_slots
from mlxserve.pipeline.stage import Stage
from mlxserve.pipeline.tensor_shares import shard_model
from mlxserve.pipeline.tensor_sums import counted

MakeModel = Callable[[], nn.Module]
"""Builds the model anew, whole, without reading its weights."""

_REPEATS = 7
_LAYERS = 4
"""So many are timed together, and one alone: the difference is without what calling the model takes."""
_GAIN = 0.9
"""Tensors are shared out where a token takes less than so much of its time: whole layers give one rank's very bits."""


class Choice(msgspec.Struct, frozen=True):
    """What the ranks do, and why, for people."""

    mode: Parallel
    reason: str


def choose(
    settings: Settings, group: mx.distributed.Group | None, findings: list[RelayFindings], make_model: MakeModel
) -> Choice:
    """What the settings say, or leave to be chosen by what is measured now."""
    if group is None:
        return Choice("pipeline", "there is one rank")
    if settings.parallel == "auto":
        return _measured(settings, group, findings, make_model)
    if settings.task == "serve":
        return Choice(settings.parallel, "as --parallel says")
    auto = _measured(settings, group, findings, make_model)
    return Choice(settings.parallel, f"as --parallel says; auto would take {auto.mode}: {auto.reason}")


def await_choice(link: Link, relay: Relay, place: Place, own: Parallel) -> Parallel:
    """A worker's part: time the collectives together with all ranks, then do what it was told, or what rank 0 chooses.

    Raises RankLost if rank 0 says anything else.
    """
    while True:
        match link.receive():
            case TimeRelay(sizes):
                link.send(exchange_patterns(relay, place.rank, place.world_size, sizes))
            case RelayTimes(seconds):
                relay.prefer(seconds)
            case Chosen(mode):
                return mode if own == "auto" else own
            case message:
                raise RankLost(f"out of step with rank 0 before loading: {message}")


def _measured(
    settings: Settings, group: mx.distributed.Group, findings: list[RelayFindings], make_model: MakeModel
) -> Choice:
    if settings.split:
        return Choice("pipeline", "--split gives each rank whole layers")
    if settings.adapter:
        return Choice("pipeline", "an adapter is cut by whole layers alone")
    try:
        share, sums = _share(make_model(), group)
    except UserError as error:
        return Choice("pipeline", str(error).partition(". ")[0])
    if share > room_bytes():
        return Choice("pipeline", f"a share of all layers takes {share / 1e9:.1f} GB, more than rank 0 has")
    model = make_model()
    walk = install_slots(model)
    trace = trace_model(model, walk)
    if trace.obstacle:
        return Choice("tensor", f"its layers cannot be spread over ranks: {trace.obstacle}")
    try:
        seconds = _layer_seconds(model, walk, trace)
    except RAISED_BY_MODELS as error:
        return Choice("pipeline", f"its layers cannot be timed alone: {error}")
    finally:
        mx.clear_cache()
    return compare(len(trace.layer_of_call), seconds, group.size(), sums, _sum_seconds(trace, findings))


def compare(layers: int, layer_seconds: float, ranks: int, sums: int, sum_seconds: float) -> Choice:
    """The quicker way to a token, with the times that speak for it."""
    tensor = layers * layer_seconds / ranks + sums * sum_seconds
    pipeline = layers * layer_seconds + ranks * sum_seconds
    faster: Parallel = "tensor" if tensor < _GAIN * pipeline else "pipeline"
    return Choice(
        faster,
        f"a token takes about {tensor * 1e3:.1f} ms where each rank computes a share of {layers} layers and {sums} "
        f"sums take {sum_seconds * 1e3:.2f} ms each, {pipeline * 1e3:.1f} ms where whole layers take "
        f"{layer_seconds * 1e3:.2f} ms each, one after the other",
    )


def _share(model: nn.Module, group: mx.distributed.Group) -> tuple[int, int]:
    """Bytes of rank 0's part of `model`, and the sums that a token takes. Raises UserError if it cannot be cut."""
    shard_model(model, group)
    size = sum(array.nbytes for _, array in tree_flatten(model.parameters()))
    try:
        with counted() as sums:
            model(mx.zeros((1, 1), mx.int32), cache=make_prompt_cache(model))
    except RAISED_BY_MODELS as error:
        raise UserError(f"a share of its layers cannot be called: {error}") from error
    return size, sums()


def _layer_seconds(model: nn.Module, walk: Walk, trace: Trace) -> float:
    """A layer's of a token on this device; of those in the middle, as the first ones may be of another kind."""
    middle = len(trace.layer_of_call) // 2
    most = min(_LAYERS, len(trace.layer_of_call) - middle)
    for call in range(middle, middle + most):
        layer = walk.layers[trace.layer_of_call[call]]
        layer.update(tree_map(lambda array: mx.zeros(array.shape, array.dtype), layer.parameters()))
    one, several = (_seconds(model, walk, trace, range(middle, middle + count)) for count in (1, most))
    return (several - one) / (most - 1) if several > one and most > 1 else several / most


def _seconds(model: nn.Module, walk: Walk, trace: Trace, calls: range) -> float:
    """The least of a few tokens' through `calls`."""
    stage = Stage(model, walk, trace, calls)
    stage.apply(Open(0, 1))
    incoming = [mx.zeros(form.shape(1, 1), form.dtype) for form in trace.crossing(calls.start)]
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        mx.eval(stage.forward(Item(0, [[0]], [], "none"), incoming), stage.state(0))
        times.append(time.perf_counter() - start)
    return min(times)


def _sum_seconds(trace: Trace, findings: list[RelayFindings]) -> float:
    """Of a sum of one token's hidden state: what the slowest rank saw of the next larger exchange."""
    hidden = trace.crossing(len(trace.layer_of_call))[0]
    size = hidden.dtype.size * math.prod(hidden.shape(1, 1)) // len(findings)
    times = [finding.seconds["all_sum"] for finding in findings]
    fitting = min((each for each in times[0] if each >= size), default=max(times[0]))
    return max(each[fitting] for each in times)
