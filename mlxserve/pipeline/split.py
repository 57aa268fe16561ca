"""Which rank runs which layers: found by tracing the model, never by its name.

A model's layers are *called* one after the other, each with the hidden state that the one before returned. A one-token
trace, which MLX being lazy computes nothing, records these calls. Ranks get contiguous ranges of calls; nearly always
a call is a layer, but a model that loops over its layers twice is cut in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache

from mlxserve.errors import UserError
from mlxserve.pipeline.slots import Call, Walk, find_layers


@dataclass(frozen=True)
class Boundary:
    """What leaves a call: a hidden state [batch, length, *trailing] of `dtype`."""

    trailing: tuple[int, ...]
    dtype: mx.Dtype


@dataclass(frozen=True)
class Trace:
    """What a one-token run showed of a model."""

    model_type: str
    layer_of_call: list[int]
    boundaries: list[Boundary]
    """What leaves each call."""
    caches_of_call: list[frozenset[int]]
    """Indices into the model's list of caches that each call was given."""
    obstacle: str
    """Why the calls cannot be spread over ranks; empty if they can."""


def trace_model(model: nn.Module, walk: Walk) -> Trace:
    """Run `model`, whose layers are in `walk`'s slots, on one token without computing it.

    Raises UserError naming the model type if even that fails.
    """
    name = model_type_of(model)
    caches = make_prompt_cache(model)
    try:
        with walk.recording() as calls:
            model(mx.zeros((1, 1), mx.int32), cache=caches)
    except RAISED_BY_MODELS as error:
        raise UserError(f"model type {name!r} cannot be served here: {error}") from error
    whole = [call.output for call in calls if _is_hidden(call.output)]
    return Trace(
        model_type=name,
        layer_of_call=[call.layer for call in calls],
        boundaries=[Boundary(tuple(output.shape[2:]), output.dtype) for output in whole],
        caches_of_call=[_caches_in(call, caches) for call in calls],
        obstacle=_obstacle(model, walk, calls, whole),
    )


def model_type_of(model: nn.Module) -> str:
    """The model type's name, as in its config."""
    return str(getattr(model, "model_type", None) or type(model).__module__.rpartition(".")[2])


RAISED_BY_MODELS = (TypeError, ValueError, AttributeError, IndexError, KeyError, RuntimeError, NotImplementedError)


def _obstacle(model: nn.Module, walk: Walk, calls: list[Call], whole: list[mx.array]) -> str:
    if not calls or {call.layer for call in calls} != set(range(walk.layer_count)):
        return "it does not call its layers one after the other"
    if len(whole) != len(calls):
        return "what its layers hand on is not one array [batch, length, width]"
    if any(call.carries_state for call in calls):
        return "its layers hand on arrays besides the hidden state"
    try:
        walk.finish(whole[-1])
        model(mx.zeros((1, 1), mx.int32), cache=make_prompt_cache(model))
    except RAISED_BY_MODELS:
        return "it reads its layers' caches again after the last layer"
    return ""


def check_splittable(trace: Trace, split: list[range]) -> None:
    """Raise UserError, naming the model type and the reason, if the calls cannot be spread over ranks like this."""
    reason = trace.obstacle
    owners: dict[int, int] = {}
    for rank, calls in enumerate(split):
        for cache in frozenset[int]().union(*(trace.caches_of_call[call] for call in calls)):
            if owners.setdefault(cache, rank) != rank:
                reason = reason or "layers of different ranks would share a KV cache"
    if reason:
        raise UserError(
            f"model type {trace.model_type!r} cannot be split over ranks: {reason}. Serve it on one machine."
        )


def layer_bytes(model: nn.Module) -> list[int]:
    """Bytes of each layer's weights. To be called before the layers are put in slots; reads no weight."""
    _, layers = find_layers(model)
    return [sum(array.nbytes for _, array in tree_flatten(layer.parameters())) for layer in layers]


def balance(sizes: list[int], world_size: int) -> list[int]:
    """Cut `sizes` into `world_size` contiguous parts, none empty, whose largest sum is least.

    Returns the length of each part. Among equally good cuts the first parts are the longest.
    """
    best = _least_largest(sizes, world_size)
    parts, start = [], 0
    for left in reversed(range(world_size)):
        stop, total = start + 1, sizes[start]
        while stop < len(sizes) - left and (left == 0 or total + sizes[stop] <= best):
            total += sizes[stop]
            stop += 1
        parts.append(stop - start)
        start = stop
    return parts


def _least_largest(sizes: list[int], world_size: int) -> int:
    """The largest part's sum in the best cut."""
    sums = [0, *accumulate(sizes)]
    count = len(sizes)
    best = {start: sums[count] - sums[start] for start in range(count)}  # of each tail, in so many parts
    for parts in range(2, world_size + 1):
        best = {
            start: min(max(sums[stop] - sums[start], best[stop]) for stop in range(start + 1, count - parts + 2))
            for start in range(count - parts + 1)
        }
    return best[0]


def plan_split(sizes: list[int], world_size: int, wanted: tuple[int, ...]) -> list[range]:
    """The calls of each rank: `wanted` where given, else balanced. Raises UserError if `wanted` does not fit.

    Only the layers' bytes are balanced, although rank 0 has the head too: the chunks of a prompt follow each other as
    fast as the slowest rank's layers allow and never pass the head, and one batch's decode step takes the same time
    wherever the layers are.
    """
    count = len(sizes)
    if world_size > count:
        raise UserError(f"the model has {count} layers, too few for {world_size} ranks: start at most {count} ranks.")
    parts = list(wanted) if wanted else balance(sizes, world_size)
    if len(parts) != world_size or sum(parts) != count or min(parts) < 1:
        raise UserError(
            f"--split {','.join(map(str, parts))} does not fit: it must name {world_size} ranks' layers, "
            f"each at least 1, together {count}."
        )
    starts = [sum(parts[:rank]) for rank in range(world_size)]
    return [range(start, start + part) for start, part in zip(starts, parts, strict=True)]


def _is_hidden(output: Any) -> bool:
    return isinstance(output, mx.array) and output.ndim == 3 and output.shape[:2] == (1, 1)


def _caches_in(call: Call, caches: list[Any]) -> frozenset[int]:
    given = {id(value) for value in call.leaves()}
    return frozenset(index for index, cache in enumerate(caches) if id(cache) in given)
