"""Which rank runs which layers.

Ranks get contiguous ranges of the calls of a model's layers, which are cut only where what has to travel is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise

import mlx.nn as nn
from mlx.utils import tree_flatten

from mlxserve.config import Capacity
from mlxserve.errors import UserError
from mlxserve.pipeline.balance import Weights, balance
from mlxserve.pipeline.model_trace import Trace
from mlxserve.pipeline.slots import find_layers


def check_splittable(trace: Trace, world_size: int) -> None:
    """Raise UserError, naming the model type and the reason, if the calls cannot be spread over so many ranks."""
    most = len(trace.cuts) + 1
    if trace.obstacle:
        raise UserError(
            f"model type {trace.model_type!r} cannot be split over ranks: {trace.obstacle}. Serve it on one machine."
        )
    if trace.obstacles and world_size > most:
        reasons = " and ".join(sorted(set(trace.obstacles.values())))
        raise UserError(
            f"this model of type {trace.model_type!r} cannot be split over more than {most} ranks: {reasons}. "
            f"Start at most {most}."
        )


def layer_bytes(model: nn.Module) -> list[int]:
    """Bytes of each layer's weights. To be called before the layers are put in slots; reads no weight."""
    layers = [layer for _, layers in find_layers(model) for layer in layers]
    return [sum(array.nbytes for _, array in tree_flatten(layer.parameters())) for layer in layers]


def tail_bytes(model: nn.Module) -> int:
    """Bytes of what no layer has that a token reads: not an embedding, unless it is the head, too.

    To be called before the layers are put in slots; reads no weight.
    """
    paths = tuple(f"{path}." for path, _ in find_layers(model))
    named = [(name, module) for name, module in model.named_modules() if not f"{name}.".startswith(paths)]
    outside = [module for _, module in named]
    embeddings = [module for module in outside if isinstance(module, nn.Embedding | nn.QuantizedEmbedding)]
    embeddings.sort(key=lambda module: module.weight.size)
    heads = [module for module in outside if isinstance(module, nn.Linear | nn.QuantizedLinear)]
    if embeddings and all(head.weight.shape[0] != embeddings[-1].weight.shape[0] for head in heads):
        embeddings.pop()
    unread = {f"{name}." for name, module in named if any(module is embedding for embedding in embeddings)}
    read = [array for name, array in tree_flatten(model.parameters()) if not name.startswith((*paths, *unread))]
    return sum(array.nbytes for array in read)


def plan_split(
    weights: Weights, world_size: int, wanted: tuple[int, ...], cuts: list[int], ranks: Sequence[Capacity] = ()
) -> list[range]:
    """The calls of each rank: `wanted` where given, else balanced by what `ranks` have, who are equal where not told.

    They are cut before calls of `cuts` only.

    Raises UserError if `wanted` does not fit.
    """
    count = len(weights.sizes)
    if world_size > count:
        raise UserError(f"the model has {count} layers, too few for {world_size} ranks: start at most {count} ranks.")
    parts = list(wanted) or _balanced(weights, cuts, ranks or [Capacity()] * world_size)
    if len(parts) != world_size or sum(parts) != count or min(parts) < 1:
        raise UserError(
            f"--split {','.join(map(str, parts))} does not fit: it must name {world_size} ranks' layers, "
            f"each at least 1, together {count}."
        )
    ends = list(accumulate(parts))
    if wrong := [end for end in ends[:-1] if end not in cuts]:
        raise UserError(
            f"--split {','.join(map(str, parts))} does not fit: this model cannot be cut after layer {wrong[0]}, "
            f"for layers on both sides share what cannot travel; it can after {', '.join(map(str, cuts))}."
        )
    return [range(start, stop) for start, stop in pairwise([0, *ends])]


def _balanced(weights: Weights, cuts: list[int], ranks: Sequence[Capacity]) -> list[int]:
    """Like `balance`, cutting only before calls of `cuts`, of which there are enough."""
    ends = [*cuts, len(weights.sizes)] if len(ranks) > 1 else [len(weights.sizes)]
    pieces = list(pairwise([0, *ends]))
    sizes, reads = ([sum(each[start:stop]) for start, stop in pieces] for each in (weights.sizes, weights.reads))
    numbers = balance(replace(weights, sizes=sizes, reads=reads), ranks)
    stops = [0, *(ends[number - 1] for number in accumulate(numbers))]
    return [stop - start for start, stop in pairwise(stops)]
