"""Segments: what a rank keeps of sequences that it has read, to begin others with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

from mlxserve.pipeline.plan import Span
from mlxserve.pipeline.row_cache import Range

Snapshot = dict[str, Any]
"""The attributes of a cache that cannot be cut."""


@dataclass(frozen=True)
class Segment:
    """Consecutive tokens of a sequence, as this rank's caches hold them."""

    tokens: int
    ranges: list[Range]
    """Of each cache that can be cut; empty for one that no token ever entered."""
    snapshots: list[Snapshot]
    """Of each cache that cannot: what it was after the last of these tokens. Empty: nothing can begin here."""

    @property
    def arrays(self) -> list[mx.array]:
        """All of them."""
        return [array for _, array in tree_flatten((self.ranges, self.snapshots)) if isinstance(array, mx.array)]

    @property
    def nbytes(self) -> int:
        """Bytes that it holds."""
        return sum(array.nbytes for array in self.arrays)

    def cut(self, start: int, stop: int) -> list[Range]:
        """The tokens `start` to `stop`, as views."""
        if (start, stop) == (0, self.tokens):
            return self.ranges
        return [[array[:, :, start:stop] for array in tokens] for tokens in self.ranges]


Prefix = list[tuple[Segment, int]]
"""What a row begins with: segments, and how many tokens of each."""


class SegmentKeeper(Protocol):
    """Keeps segments longer than this process lives."""

    def write(self, key: str, segment: Segment) -> None: ...

    def remove(self, key: str) -> None: ...


class Segments:
    """The segments of one rank by key."""

    def __init__(self) -> None:
        self._by_key: dict[str, Segment] = {}
        self._keeper: SegmentKeeper | None = None

    @property
    def lengths(self) -> dict[str, int]:
        """Tokens of each."""
        return {key: segment.tokens for key, segment in self._by_key.items()}

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes of each."""
        return {key: segment.nbytes for key, segment in self._by_key.items()}

    @property
    def nbytes(self) -> int:
        """Bytes that all of them hold."""
        return sum(self.sizes.values())

    def resume(self, kept: dict[str, Segment], keeper: SegmentKeeper) -> None:
        """Begin with what `keeper` has from a former run, and let it keep what is stored from now on."""
        self._by_key = dict(kept)
        self._keeper = keeper

    def prefix(self, spans: list[Span]) -> Prefix:
        """What `spans` name."""
        return [(self._by_key[span.key], span.count) for span in spans]

    def store(self, key: str, segment: Segment) -> None:
        """Keep `segment`; it is computed while other things are done."""
        mx.async_eval(segment.arrays)  # type: ignore[no-untyped-call]
        self._by_key[key] = segment
        if self._keeper:
            self._keeper.write(key, segment)

    def split(self, key: str, at: int, head: str) -> None:
        """The first `at` tokens of `key` become `head`, with nothing of what cannot be cut."""
        whole = self._by_key[key]
        assert 0 < at < whole.tokens
        self.store(head, Segment(at, _copied(whole.cut(0, at)), []))
        self.store(key, Segment(whole.tokens - at, _copied(whole.cut(at, whole.tokens)), whole.snapshots))

    def drop(self, key: str) -> None:
        """Forget it."""
        self._by_key.pop(key, None)
        if self._keeper:
            self._keeper.remove(key)


def _copied(ranges: list[Range]) -> list[Range]:
    """So that the whole that they were views of is not held."""
    copies: list[Range] = tree_map(mx.contiguous, ranges)
    return copies
