"""The first passes through the pipeline: every rank computes, and what the model can do together is found out."""

from __future__ import annotations

import time

import mlx.core as mx

from mlxserve.config import Passes
from mlxserve.engine.pace import Pace
from mlxserve.pipeline.pipeline import Pipeline, Work
from mlxserve.pipeline.plan import CacheOperation, Keep, Open

_SHORT = [3, 1, 4]
_LONG = [1, 5, 9, 2, 6]
_NEXT = 2
_SIZES = (1, 8, 64, 128, 256)
_ROUNDS = 2
"""Passes of each size. The quickest one counts: memory is new to the first, and nothing makes a pass shorter than it
is."""
_ENOUGH_SECONDS = 0.1
"""Passes that take longer are bound by computing: larger ones take more in proportion, and are not waited for."""
_NONE = Passes()
_BATCH = 1
_NO_BATCH = 0
"""None of the scheduler's, which count from 1."""
_TOLERANCE = 0.02
_TOLERANCE_16_BITS = 0.05
"""Relative difference of logits that rounding explains; wrongly masked padding gives more."""


def warm_up(pipeline: Pipeline) -> int:
    """Compute a first prompt on all ranks, and compare it with itself beside a longer one.

    Clears `pipeline.batchable` for models whose mlx-lm implementation gives other results for padded rows. Returns the
    vocabulary size: the width of the logits. Raises RankLost.
    """
    alone = _first_logits(pipeline, [_SHORT], [])
    if pipeline.batchable:
        filled = [*_SHORT, *[0] * (len(_LONG) - len(_SHORT))]
        together = _first_logits(pipeline, [filled, _LONG], [len(_SHORT), len(_LONG)])
        pipeline.batchable = all(_alike(one[0], other[0]) for one, other in zip(alone, together, strict=True))
    return int(alone[0].shape[-1])


def measured(pipeline: Pipeline, split: tuple[int, ...] = (), known: Passes = _NONE) -> Passes:
    """How long a few passes take: as `known` where that was measured with this `split`. Raises RankLost."""
    if split and known.split == split:
        return known
    found: list[tuple[int, float]] = []
    for size in _SIZES:
        found.append((size, min(_seconds(pipeline, size) for _ in range(_ROUNDS))))
        if found[-1][1] > _ENOUGH_SECONDS:
            break
    return Passes(split, tuple(found))


def first_pace(ranks: int, passes: Passes) -> Pace:
    """What the scheduler can plan by from the first request on."""
    pace = Pace(ranks)
    for size, seconds in passes.seconds:
        for _ in range(_ROUNDS):
            pace.note(size, seconds / ranks)
    return pace


def _seconds(pipeline: Pipeline, size: int) -> float:
    """What a prompt of `size` tokens takes."""
    start = time.perf_counter()
    _logits(pipeline, [Open(_BATCH, 1)], Work(_BATCH, mx.array([[1] * size]), [], "last"))
    seconds = time.perf_counter() - start
    pipeline.tick([Keep(_BATCH, [])], None)
    return seconds


def prove(pipeline: Pipeline) -> None:
    """Let every rank compute one token, while nothing else is under way. Raises RankLost."""
    _logits(pipeline, [Open(_NO_BATCH, 1)], Work(_NO_BATCH, mx.array([[_NEXT]]), [], "last"))
    pipeline.tick([Keep(_NO_BATCH, [])], None)


def _first_logits(pipeline: Pipeline, rows: list[list[int]], lengths: list[int]) -> list[mx.array]:
    """Logits [rows, vocabulary] after each row's last token, and after one more."""
    prompt = _logits(pipeline, [Open(_BATCH, len(rows))], Work(_BATCH, mx.array(rows), lengths, "last"))
    step = _logits(pipeline, [], Work(_BATCH, mx.array([[_NEXT]] * len(rows)), [], "last"))
    pipeline.tick([Keep(_BATCH, [])], None)
    return [prompt, step]


def _logits(pipeline: Pipeline, operations: list[CacheOperation], work: Work) -> mx.array:
    logits = pipeline.tick(operations, work)
    while logits is None:
        logits = pipeline.tick([], None)
    logits = logits[:, -1]
    mx.eval(logits)
    return logits


def _alike(one: mx.array, other: mx.array) -> bool:
    tolerance = _TOLERANCE if one.dtype == mx.float32 else _TOLERANCE_16_BITS
    one, other = one.astype(mx.float32), other.astype(mx.float32)
    scale = mx.linalg.norm(one - mx.mean(one))
    return bool((mx.linalg.norm(one - other) <= tolerance * scale).item())
