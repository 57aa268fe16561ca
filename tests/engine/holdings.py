"""What a rank has in its caches, as its plans have made it, to be compared with other ranks and with the scheduler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mlx.core as mx

from mlxserve.engine.scheduler import Scheduler
from mlxserve.pipeline.row_cache import RowCache
from mlxserve.pipeline.stage import Stage


@dataclass(frozen=True)
class Holdings:
    """Tokens of each row of each batch, and of each stored segment."""

    batches: dict[int, list[int]]
    segments: dict[str, int]


def held_by(stage: Stage) -> Holdings:
    """What `stage` has; all of its caches must agree."""
    return Holdings({batch: _lengths(stage, batch) for batch in stage._batches}, stage.segments.lengths)


def cache_bytes(stage: Stage) -> int:
    """What the caches of all its batches take."""
    return sum(cache.nbytes for batch in stage._batches for cache in stage.caches(batch))


def believed_by(scheduler: Scheduler) -> Holdings:
    """What rank 0 must have, by the scheduler's own books."""
    decoding = scheduler._decoding
    batches = {prompts.batch: [one.read for one in prompts.sequences] for prompts in scheduler._reading}
    for group in [*decoding.groups, *decoding.joining, *scheduler._landed]:
        wrong = group.rejected or [0] * group.rows
        rows = zip(group.sequences, wrong, strict=True)
        batches[group.batch] = [sequence.read + surplus for sequence, surplus in rows]
    index = scheduler._waiting._prefixes
    return Holdings(batches, {key: len(node.tokens) for key, node in index._nodes.items()} if index is not None else {})


def _lengths(stage: Stage, batch: int) -> list[int]:
    told = [lengths for cache in stage.caches(batch) if (lengths := _lengths_of(cache)) is not None]
    assert all(lengths == told[0] for lengths in told)
    assert len(told[0]) == stage._batches[batch].rows
    return told[0]


def _lengths_of(cache: Any) -> list[int] | None:
    """None where it does not know: recurrent states."""
    if isinstance(cache, RowCache):
        return list(cache.lengths)
    offset: Any = getattr(cache, "offset", None)
    return offset.tolist() if isinstance(offset, mx.array) else None
