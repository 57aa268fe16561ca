"""The relay: one collective a tick carries every boundary's hidden state at once, exact to the bit.

Which collective, measured times say: rank 0's, the same on every rank, so that all make the same call.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import mlx.core as mx

from mlxserve.pipeline.collective import Collective, Gather, Sum, Way, joined

WORD = 8
_MOST_REMEMBERED = 4096
"""Choices that are kept: prompts of all lengths pair up to ever new ones."""

Times = dict[Way, dict[int, float]]
"""Seconds of an exchange by the bytes that each rank gives."""


class Traffic(Protocol):
    """What moves between the ranks, as figures show it."""

    given_bytes: int
    """What this rank has given, all together."""

    def latency(self) -> float:
        """Seconds of the quickest exchange since this was asked last, or before; 0 where there was none."""
        ...


@dataclass(frozen=True)
class Parcel:
    """The shape and type of an array that a rank puts into the collective."""

    shape: tuple[int, ...]
    dtype: mx.Dtype

    @property
    def words(self) -> int:
        """64-bit words that it takes in the buffer."""
        return -(-math.prod(self.shape) * self.dtype.size // WORD)


class Relay:
    """Exchanges hidden states between the ranks of `group`."""

    def __init__(self, group: mx.distributed.Group, waits_asleep: bool) -> None:
        """`waits_asleep`: a rank that waits in a collective of this group uses no CPU, so it may come early."""
        self.waits_asleep = waits_asleep
        self._rank = group.rank()
        self._size = group.size()
        self._before = (self._rank - 1) % self._size
        self._collectives: dict[Way, Collective] = {"all_sum": Sum(group), "all_gather": Gather(group)}
        self._times: Times = {}
        self._chosen: dict[tuple[int, ...], Way] = {}
        self._quickest = math.inf
        self._latency = 0.0
        self.given_bytes = 0
        """What this rank has given to the next, all together."""

    def prefer(self, times: Times) -> None:
        """From now on take the way that is faster by `times`, which must be equal on all ranks."""
        self._times = times
        self._chosen.clear()

    def way(self, words: list[int]) -> Way:
        """What carries parcels of so many `words`; `all_sum` while nothing is known."""
        key = tuple(words)
        if key not in self._chosen:
            if len(self._chosen) >= _MOST_REMEMBERED:
                self._chosen.clear()
            self._chosen[key] = min(self._collectives, key=lambda way: self._seconds(way, words))
        return self._chosen[key]

    def exchange(self, parcels: list[list[Parcel]], mine: list[mx.array], way: Way | None = None) -> list[mx.array]:
        """Give `mine` to the rank after this one, take what the rank before gives; both may be nothing.

        `parcels` says for every rank what it gives, and `way` by which collective, equally on all ranks. All ranks call
        this together. `mine` must be evaluated; the result is.
        """
        words = [sum(parcel.words for parcel in given) for given in parcels]
        if not any(words):
            return []
        started = time.perf_counter()
        with mx.stream(mx.cpu):
            packed = joined([_packed(each) for each in mine]) if mine else None
            received = self._collectives[way or self.way(words)].carry(words, packed, self._before)
            taken = _unpacked(received, parcels[self._before])
            mx.eval(taken or received)
        self._quickest = min(self._quickest, time.perf_counter() - started)
        self.given_bytes += words[self._rank] * WORD
        return taken

    def latency(self) -> float:
        """Seconds of the quickest exchange since this was asked last, or before; 0 where there was none.

        Who comes last to an exchange waits for nobody: the quickest of all ranks is the time of the network alone.
        """
        if self._quickest < math.inf:
            self._latency, self._quickest = self._quickest, math.inf
        return self._latency

    def _seconds(self, way: Way, words: list[int]) -> float:
        """What the exchange would take, by the times measured."""
        points = [(size // WORD * self._size, seconds) for size, seconds in sorted(self._times.get(way, {}).items())]
        return _between(points, self._collectives[way].buffer_words(words))


def _between(points: list[tuple[int, float]], place: int) -> float:
    """The value at `place` on the line through `points`, drawn on beyond the last; 0 without points."""
    if not points or place <= points[0][0]:
        return points[0][1] if points else 0.0
    (left, low), (right, high) = points[-2:]
    for first, second in pairwise(points):
        if place <= second[0]:
            (left, low), (right, high) = first, second
            break
    return low + (high - low) * (place - left) / (right - left)


def _packed(values: mx.array) -> mx.array:
    """The bits of `values` as 64-bit words, filled up with zeros."""
    flat = values.reshape(-1)
    per_word = WORD // values.dtype.size
    missing = -flat.size % per_word
    if missing:
        flat = mx.concatenate([flat, mx.zeros((missing,), values.dtype)])
    return flat.view(mx.uint64)


def _unpacked(words: mx.array, parcels: list[Parcel]) -> list[mx.array]:
    taken, start = [], 0
    for parcel in parcels:
        own = words[start : start + parcel.words] if len(parcels) > 1 else words
        taken.append(own.view(parcel.dtype)[: math.prod(parcel.shape)].reshape(parcel.shape))
        start += parcel.words
    return taken
