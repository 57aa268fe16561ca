"""Which rank runs which layers: found by tracing the model, never by its name.

A model's layers are *called* one after the other, each with the hidden state that the one before returned. A one-token
trace, which MLX being lazy computes nothing, records these calls. Ranks get contiguous ranges of calls; nearly always
a call is a layer, but a model that loops over its layers twice is cut in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.cache import make_prompt_cache

from mlxserve.config import Capacity
from mlxserve.errors import UserError
from mlxserve.pipeline.balance import Weights, balance
from mlxserve.pipeline.experts import unread_bytes, watching_experts
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
    unread: list[int]
    """Bytes of each layer's weights that a token does not read."""
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
        with watching_experts() as asked, walk.recording() as calls:
            model(mx.zeros((1, 1), mx.int32), cache=caches)
    except RAISED_BY_MODELS as error:
        raise UserError(f"model type {name!r} cannot be served here: {error}") from error
    whole = [call.output for call in calls if _is_hidden(call.output)]
    return Trace(
        model_type=name,
        layer_of_call=[call.layer for call in calls],
        boundaries=[Boundary(tuple(output.shape[2:]), output.dtype) for output in whole],
        unread=[unread_bytes(layer, asked) for layer in walk.layers],
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


def tail_bytes(model: nn.Module) -> int:
    """Bytes of what no layer has that a token reads: not an embedding, unless it is the head, too.

    To be called before the layers are put in slots; reads no weight.
    """
    path, _ = find_layers(model)
    named = [(name, module) for name, module in model.named_modules() if not f"{name}.".startswith(f"{path}.")]
    outside = [module for _, module in named]
    embeddings = [module for module in outside if isinstance(module, nn.Embedding | nn.QuantizedEmbedding)]
    embeddings.sort(key=lambda module: module.weight.size)
    heads = [module for module in outside if isinstance(module, nn.Linear | nn.QuantizedLinear)]
    if embeddings and all(head.weight.shape[0] != embeddings[-1].weight.shape[0] for head in heads):
        embeddings.pop()
    unread = {f"{name}." for name, module in named if any(module is embedding for embedding in embeddings)}
    read = [array for name, array in tree_flatten(model.parameters()) if not name.startswith((f"{path}.", *unread))]
    return sum(array.nbytes for array in read)


def plan_split(
    weights: Weights, world_size: int, wanted: tuple[int, ...], ranks: Sequence[Capacity] = ()
) -> list[range]:
    """The calls of each rank: `wanted` where given, else balanced by what `ranks` have, who are equal where not told.

    Raises UserError if `wanted` does not fit.
    """
    count = len(weights.sizes)
    if world_size > count:
        raise UserError(f"the model has {count} layers, too few for {world_size} ranks: start at most {count} ranks.")
    parts = list(wanted) if wanted else balance(weights, ranks or [Capacity()] * world_size)
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
