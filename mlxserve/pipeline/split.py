"""Which rank runs which layers.

Ranks get contiguous ranges of the calls of a model's layers, which are cut only where what has to travel is known.
"""

from __future__ import annotations

from itertools import accumulate, pairwise

import mlx.nn as nn
from mlx.utils import tree_flatten

from mlxserve.errors import UserError
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


def plan_split(sizes: list[int], world_size: int, wanted: tuple[int, ...], cuts: list[int]) -> list[range]:
    """The calls of each rank: `wanted` where given, else balanced; cut before calls of `cuts` only.

    Raises UserError if `wanted` does not fit.

    Only the layers' bytes are balanced, although rank 0 has the head too: the chunks of a prompt follow each other as
    fast as the slowest rank's layers allow and never pass the head, and one batch's decode step takes the same time
    wherever the layers are.
    """
    count = len(sizes)
    if world_size > count:
        raise UserError(f"the model has {count} layers, too few for {world_size} ranks: start at most {count} ranks.")
    parts = list(wanted) or _balanced(sizes, world_size, cuts)
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


def _balanced(sizes: list[int], world_size: int, cuts: list[int]) -> list[int]:
    """Like `balance`, cutting `sizes` only before those of `cuts`, of which there are enough."""
    ends = [*cuts, len(sizes)] if world_size > 1 else [len(sizes)]
    pieces = list(pairwise([0, *ends]))
    numbers = balance([sum(sizes[start:stop]) for start, stop in pieces], world_size)
    stops = [0, *(ends[number - 1] for number in accumulate(numbers))]
    return [stop - start for start, stop in pairwise(stops)]
