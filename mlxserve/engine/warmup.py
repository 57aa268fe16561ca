"""The first passes through the pipeline: every rank computes, and what the model can do together is found out."""

from __future__ import annotations

import time

import mlx.core as mx

from mlxserve.engine.pace import Pace
from mlxserve.pipeline.pipeline import Pipeline, Work
from mlxserve.pipeline.plan import CacheOperation, Keep, Open

_SHORT = [3, 1, 4]
_LONG = [1, 5, 9, 2, 6]
_SIZES = (1, 8, 64)
_ROUNDS = 2
"""Passes of each size; the pace takes the first one's time less seriously the more there are."""
_BATCH = 1
_TOLERANCE = 0.05
"""Relative difference of logits that rounding explains also in 16 bits; wrongly masked padding gives far more."""


def warm_up(pipeline: Pipeline) -> int:
    """Compute a first prompt on all ranks, and compare it with itself beside a longer one.

    Clears `pipeline.batchable` for models whose mlx-lm implementation gives other results for padded rows. Returns the
    vocabulary size: the width of the logits. Raises RankLost.
    """
    alone = _last_logits(pipeline, [_SHORT], [])
    if pipeline.batchable:
        filled = [*_SHORT, *[0] * (len(_LONG) - len(_SHORT))]
        together = _last_logits(pipeline, [filled, _LONG], [len(_SHORT), len(_LONG)])
        pipeline.batchable = _alike(alone[0], together[0])
    return int(alone.shape[-1])


def measure(pipeline: Pipeline, pace: Pace) -> None:
    """Take the time of a few passes, so that the scheduler can plan from the first request on. Raises RankLost."""
    for size in _SIZES:
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            _last_logits(pipeline, [[1] * size], [])
            pace.note(size, (time.perf_counter() - start) / pace.ranks)


def _last_logits(pipeline: Pipeline, rows: list[list[int]], lengths: list[int]) -> mx.array:
    """Logits [rows, vocabulary] after each row's last token, float32."""
    operations: list[CacheOperation] = [Open(_BATCH, len(rows))]
    logits = pipeline.tick(operations, Work(_BATCH, mx.array(rows), lengths, "last"))
    while logits is None:
        logits = pipeline.tick([], None)
    logits = logits[:, -1].astype(mx.float32)
    mx.eval(logits)
    pipeline.tick([Keep(_BATCH, [])], None)
    return logits


def _alike(one: mx.array, other: mx.array) -> bool:
    scale = mx.linalg.norm(one - mx.mean(one))
    return bool((mx.linalg.norm(one - other) <= _TOLERANCE * scale).item())
