"""The KV caches of one batch on one rank.

The model wants a list with one cache a layer. This rank keeps real ones for its own layers only. A layer that runs
elsewhere is given one of them of the same kind, so that the masks and positions which the model derives from it come
out right; where this rank has none of that kind, a ghost: a cache of that kind which holds one channel of zeros.

What mlx-lm's `KVCache` stands for is a `RowCache` here. Caches of other kinds, which cannot be cut after any token, are
mlx-lm's own.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.models.cache import CacheList, ChunkedKVCache, KVCache, RotatingKVCache

from mlxserve.pipeline.quantized_row_cache import QuantizedRowCache
from mlxserve.pipeline.rotating_cache import RotatingRows
from mlxserve.pipeline.row_cache import Range, RowCache
from mlxserve.pipeline.segments import Prefix, Segment

MakeCaches = Callable[[], list[Any]]
"""The model's own way to make the empty caches of one sequence."""


class Layout:
    """Which of the model's caches this rank keeps, and which of those stands in for each other one."""

    def __init__(self, make_caches: MakeCaches, own: frozenset[int], used: frozenset[int]) -> None:
        """`own` and `used`: this rank's caches, and those of all that the model puts anything into, by index."""
        kinds = [(index in used, *_kind(cache)) for index, cache in enumerate(make_caches())]
        self._make_caches = make_caches
        self._kept = sorted(own)
        keeper = {kinds[index]: index for index in reversed(self._kept)}
        self._ghosts = []
        for index, kind in enumerate(kinds):
            if kind not in keeper:
                keeper[kind] = index
                self._ghosts.append(index)
        self._ghosts.sort(key=lambda index: index in used)
        self._kept += self._ghosts
        self._fed = len(used.intersection(self._ghosts))
        self._place = [self._kept.index(index if index in own else keeper[kind]) for index, kind in enumerate(kinds)]
        self.batchable = all(hasattr(cache, "merge") for cache in self._fresh())
        self.cuttable = all(type(leaf) is KVCache for leaf in _leaves(self._fresh()))
        mine = [cache for index, cache in enumerate(make_caches()) if index in own]
        self.own_row_caches = sum(type(leaf) is KVCache for leaf in _leaves(mine)) if self.batchable else 0
        everywhere = sum(type(leaf) is KVCache for leaf in _leaves(make_caches()))
        self.cuttable_elsewhere = self.batchable and everywhere > self.own_row_caches
        self._bits = 0
        self._group_sizes: list[int] = []

    def quantize(self, bits: int, group_sizes: list[int]) -> None:
        """From now on keep `bits` of keys and values in those of the own row caches whose group size is not 0."""
        self._bits, self._group_sizes = bits, group_sizes

    def open(self, rows: int, prefixes: list[Prefix] | None = None) -> BatchCaches:
        """Caches for a batch of `rows` sequences, each with what it begins with.

        `rows` is 1 for a model that is not batchable.
        """
        prefixes = prefixes or [[] for _ in range(rows)]
        columns = zip(*(_leaves(self._begun(prefix)) for prefix in prefixes), strict=True)
        ranges = self._ranges(prefixes)
        group_sizes = chain(self._group_sizes, repeat(0))
        leaves = (self._together(list(column), ranges, group_sizes) for column in columns)
        kept = [_with_leaves(cache, leaves) for cache in self._fresh()]
        return BatchCaches(kept, self._place, self._fed, rows)

    def _fresh(self) -> list[Any]:
        caches = self._make_caches()
        return [caches[index] for index in self._kept]

    def _begun(self, prefix: Prefix) -> list[Any]:
        """The caches of one sequence; those that cannot be cut are as they were after `prefix`."""
        caches = self._fresh()
        if prefix:
            last, count = prefix[-1]
            uncut = [leaf for leaf in _leaves(caches) if type(leaf) is not KVCache]
            assert count == last.tokens or not uncut
            for leaf, snapshot in zip(uncut, last.snapshots, strict=True):
                vars(leaf).update(_copied(snapshot))
        return caches

    def _ranges(self, prefixes: list[Prefix]) -> Iterator[list[list[Range]]]:
        """For each cache that can be cut, the ranges that each row begins with."""
        cut = [[segment.cut(0, count) for segment, count in prefix] for prefix in prefixes]
        index = 0
        while True:
            yield [[ranges[index] for ranges in row] for row in cut]
            index += 1

    def _together(self, column: list[Any], ranges: Iterator[list[list[Range]]], group_sizes: Iterator[int]) -> Any:
        """Caches of one layer, one a sequence, as one."""
        first = column[0]
        if self.batchable and type(first) is RotatingKVCache:
            return RotatingRows.merge(column)
        if type(first) is not KVCache:
            return first.merge(column) if self.batchable else first
        if self.batchable:
            return self._row_cache(next(ranges), next(group_sizes))
        (row,) = next(ranges)
        _begin(first, row)
        return first

    def _row_cache(self, rows: list[list[Range]], group_size: int) -> RowCache:
        cache = QuantizedRowCache(len(rows), self._bits, group_size) if group_size else RowCache(len(rows))
        cache.begin(rows)
        return cache


class BatchCaches:
    """The caches that one batch has on this rank; sequences are rows."""

    def __init__(self, kept: list[Any], place: list[int], fed: int, rows: int) -> None:
        """`fed`: so many of `kept`, the last ones, are ghosts that follow what the model reads."""
        self._kept = kept
        self._place = place
        self._fed = kept[len(kept) - fed :]
        self.rows = rows

    @property
    def view(self) -> list[Any]:
        """The list that the model wants."""
        return [self._kept[place] for place in self._place]

    @property
    def each(self) -> list[Any]:
        """Every cache; of those that are lists of caches, each part."""
        return list(_leaves(self._kept))

    @property
    def state(self) -> list[Any]:
        """All arrays, to be evaluated."""
        return [leaf.state for leaf in _leaves(self._kept)]

    def pad(self, lengths: list[int], width: int) -> None:
        """Before rows of different `lengths` are read, filled up to `width` on the right."""
        for leaf in _leaves(self._kept):
            leaf.prepare(lengths=lengths, right_padding=[width - length for length in lengths])

    def unpad(self) -> None:
        """After they were read: the filling is taken out again."""
        for leaf in _leaves(self._kept):
            leaf.finalize()

    def shed(self) -> None:
        """After a pass: forget what lies before the windows of caches that rotate."""
        for leaf in _leaves(self._kept):
            if isinstance(leaf, RotatingRows):
                leaf.shed()

    def feed_ghosts(self, length: int) -> None:
        """Let the ghosts follow: the model has been called with `length` new tokens a row."""
        feed(self._fed, self.rows, length)

    def join(self, other: BatchCaches) -> None:
        """Take in the rows of `other`, after the own ones."""
        for cache, theirs in zip(self._kept, other._kept, strict=True):
            cache.extend(theirs)
        self.rows += other.rows

    def keep(self, rows: list[int], spare: int = 0) -> None:
        """Drop all rows but these, in this order; caches that can be cut leave room for `spare` more."""
        leaves = list(_leaves(self._kept))
        lifted = [leaf.lifted(rows, spare) if isinstance(leaf, RowCache) else None for leaf in leaves]
        mx.eval(lifted)
        for leaf, moving in zip(leaves, lifted, strict=True):
            if isinstance(leaf, RowCache):
                leaf.filter(rows, spare, moving)
            else:
                leaf.filter(rows)
        self.rows = len(rows)

    def _copy_only(self, rows: list[int]) -> None:
        """Drop all rows but these; all that stays is copied."""
        for cache in self._kept:
            cache.filter(rows)
        self.rows = len(rows)

    def take(self, rows: list[int]) -> BatchCaches:
        """Rows that leave, as caches of their own."""
        left = [row for row in range(self.rows) if row not in rows]
        taken = BatchCaches([_twin(cache) for cache in self._kept], self._place, len(self._fed), self.rows)
        taken._copy_only(rows)
        self._copy_only(left)
        return taken

    def trim(self, counts: list[int]) -> None:
        """Forget the last `counts[row]` tokens of each row. Every cache can be cut."""
        for leaf in _leaves(self._kept):
            leaf.trim(counts if isinstance(leaf, RowCache) else counts[0])

    def segment(self, row: int, start: int, stop: int) -> Segment:
        """The tokens `start` to `stop` of a row, copied but not evaluated.

        Caches that cannot be cut are taken as they are, which must be after `stop` tokens.
        """
        ranges, snapshots = [], []
        for leaf in _leaves(self._kept):
            if isinstance(leaf, RowCache):
                ranges.append(leaf.extract(row, start, stop))
            elif type(leaf) is KVCache:
                ranges.append([] if leaf.empty() else [part[:, :, start:stop] for part in (leaf.keys, leaf.values)])
            else:
                snapshots.append(vars(leaf.extract(row) if hasattr(leaf, "extract") else _seen(leaf)))
        return Segment(stop - start, _copied(ranges), _copied(snapshots))


def _twin(cache: Any) -> Any:
    """Another cache with the same arrays, which neither may change before it has dropped rows."""
    return CacheList(*map(_twin, cache.caches)) if isinstance(cache, CacheList) else copy.copy(cache)


def _kind(cache: Any) -> tuple[Any, ...]:
    """Equal for caches that make the same masks."""
    if isinstance(cache, CacheList):
        return (CacheList, *(_kind(part) for part in cache.caches))
    scalars = {name: value for name, value in vars(cache).items() if isinstance(value, int | float | str)}
    states = len(cache.cache) if hasattr(cache, "cache") else 0
    return (type(cache), states, *sorted(scalars.items()))


def _leaves(caches: list[Any]) -> Iterator[Any]:
    """`caches`, those in lists of caches one by one."""
    for cache in caches:
        if isinstance(cache, CacheList):
            yield from _leaves(cache.caches)
        else:
            yield cache


def _with_leaves(cache: Any, leaves: Iterator[Any]) -> Any:
    """`cache` with the next of `leaves` in its place, or in the places of its parts."""
    if isinstance(cache, CacheList):
        return CacheList(*(_with_leaves(part, leaves) for part in cache.caches))
    return next(leaves)


def _begin(cache: KVCache, ranges: list[Range]) -> None:
    """Let the only row of `cache` begin with `ranges`."""
    if any(ranges):
        cache.keys, cache.values = (mx.concatenate(list(parts), axis=2) for parts in zip(*ranges, strict=True))
        cache.offset = cache.keys.shape[2]


def _seen(cache: Any) -> Any:
    """`cache`, of one sequence, without what no later token can see and without room for more."""
    if isinstance(cache, ChunkedKVCache) and not cache.empty():
        cache = copy.copy(cache)
        cache.maybe_trim_front()
        cache.keys, cache.values = cache.keys_and_values()
    return cache


def _copied(values: Any) -> Any:
    """A tree with its arrays copied, so that neither what they are views of is held nor a change shows in the other."""
    return tree_map(lambda value: mx.contiguous(value) if isinstance(value, mx.array) else value, values)


def feed(caches: list[Any], rows: int, length: int) -> None:
    """Let `caches` follow as if `length` tokens of `rows` had come: one channel of zeros for each.

    States that are there already stay: the model itself may have put them there, outside its layers.
    """
    for cache in _leaves(caches):
        if hasattr(cache, "update_and_fetch"):
            nothing = mx.zeros((rows, 1, length, 1))
            cache.update_and_fetch(nothing, nothing)
        elif hasattr(cache, "cache"):
            for index, state in enumerate(cache.cache):
                cache[index] = mx.zeros((rows, 1)) if state is None else state
            if hasattr(cache, "advance"):
                cache.advance(length)
