"""The KV caches of one batch on one rank.

The model wants a list with one cache a layer. This rank keeps real ones for its own layers only. A layer that runs
elsewhere is given one of them of the same kind, so that the masks and positions which the model derives from it come
out right; where this rank has none of that kind, a ghost: a cache of that kind which holds one channel of zeros.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import CacheList

MakeCaches = Callable[[], list[Any]]
"""The model's own way to make the empty caches of one sequence."""


class Layout:
    """Which of the model's caches this rank keeps, and which of those stands in for each other one."""

    def __init__(self, make_caches: MakeCaches, own: frozenset[int]) -> None:
        kinds = [_kind(cache) for cache in make_caches()]
        self._make_caches = make_caches
        self._kept = sorted(own)
        keeper = {kinds[index]: index for index in reversed(self._kept)}
        self._ghosts = []
        for index, kind in enumerate(kinds):
            if kind not in keeper:
                keeper[kind] = index
                self._ghosts.append(index)
        self._kept += self._ghosts
        self._place = [self._kept.index(index if index in own else keeper[kind]) for index, kind in enumerate(kinds)]
        self.batchable = all(hasattr(cache, "merge") for cache in self._fresh())

    def open(self, rows: int) -> BatchCaches:
        """Empty caches for a batch of `rows` sequences; `rows` is 1 for a model that is not batchable."""
        if not self.batchable:
            return BatchCaches(self._fresh(), self._place, len(self._ghosts), rows)
        columns = zip(*(self._fresh() for _ in range(rows)), strict=True)
        return BatchCaches([column[0].merge(list(column)) for column in columns], self._place, len(self._ghosts), rows)

    def _fresh(self) -> list[Any]:
        caches = self._make_caches()
        return [caches[index] for index in self._kept]


class BatchCaches:
    """The caches that one batch has on this rank; sequences are rows."""

    def __init__(self, kept: list[Any], place: list[int], ghosts: int, rows: int) -> None:
        self._kept = kept
        self._place = place
        self._ghosts = kept[len(kept) - ghosts :]
        self.rows = rows

    @property
    def view(self) -> list[Any]:
        """The list that the model wants."""
        return [self._kept[place] for place in self._place]

    @property
    def state(self) -> list[Any]:
        """All arrays, to be evaluated."""
        return [cache.state for cache in self._kept]

    def pad(self, lengths: list[int], width: int) -> None:
        """Before rows of different `lengths` are read, filled up to `width` on the right."""
        for cache in self._kept:
            cache.prepare(lengths=lengths, right_padding=[width - length for length in lengths])

    def unpad(self) -> None:
        """After they were read: the filling is taken out again."""
        for cache in self._kept:
            cache.finalize()

    def feed_ghosts(self, length: int) -> None:
        """Let the ghosts follow: the model has been called with `length` new tokens a row."""
        for ghost in self._ghosts:
            _feed(ghost, self.rows, length)

    def join(self, other: BatchCaches) -> None:
        """Take in the rows of `other`, after the own ones."""
        for cache, theirs in zip(self._kept, other._kept, strict=True):
            cache.extend(theirs)
        self.rows += other.rows

    def keep(self, rows: list[int]) -> None:
        """Drop all rows but these."""
        for cache in self._kept:
            cache.filter(rows)
        self.rows = len(rows)

    def take(self, rows: list[int]) -> BatchCaches:
        """Rows that leave, as caches of their own."""
        left = [row for row in range(self.rows) if row not in rows]
        taken = BatchCaches(copy.deepcopy(self._kept), self._place, len(self._ghosts), self.rows)
        taken.keep(rows)
        self.keep(left)
        return taken

    def trim(self, counts: list[int]) -> None:
        """Forget the last `counts[row]` tokens of each row."""
        assert len(set(counts)) == 1
        for cache in self._kept:
            cache.trim(counts[0])


def _kind(cache: Any) -> tuple[Any, ...]:
    """Equal for caches that make the same masks."""
    if isinstance(cache, CacheList):
        return (CacheList, *(_kind(part) for part in cache.caches))
    scalars = {name: value for name, value in vars(cache).items() if isinstance(value, int | float | str)}
    states = len(cache.cache) if hasattr(cache, "cache") else 0
    return (type(cache), states, *sorted(scalars.items()))


def _feed(ghost: Any, rows: int, length: int) -> None:
    if isinstance(ghost, CacheList):
        for part in ghost.caches:
            _feed(part, rows, length)
    elif hasattr(ghost, "update_and_fetch"):
        nothing = mx.zeros((rows, 1, length, 1))
        ghost.update_and_fetch(nothing, nothing)
    else:
        for index in range(len(ghost.cache)):
            ghost[index] = mx.zeros((rows, 1))
        if hasattr(ghost, "advance"):
            ghost.advance(length)
