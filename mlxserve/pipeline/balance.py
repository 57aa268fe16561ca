"""How many layers each rank runs: as little time for a token as the memory of the ranks allows.

A token that travels alone takes the time of all ranks together, and those that follow each other, as a prompt's do,
come as fast as the slowest rank lets them. What is made least is the sum of the two. Ranks that are equally fast get
equal shares; one that is less than half as fast as another gets only what has no room there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from mlxserve.config import Capacity

_COMFORTABLE = 750
"""Of a rank's memory, the thousandths that weights fill without need: the rest is for caches."""
_STEPS = 2
"""Speeds count in so many steps from one multiple to the next: what differs by less than half counts as equal."""

_Cost = tuple[int, int]
"""The times of all ranks together, and of the slowest."""


@dataclass(frozen=True)
class Weights:
    """Bytes of the weights, by call of a layer, first to last."""

    sizes: list[int]
    """In memory."""
    reads: list[int]
    """Read for a token: of a mixture of experts, only those that are asked."""
    shared: int = 0
    """In memory, of no layer: all on rank 0."""
    tail: int = 0
    """Of those, read for a token."""


def balance(weights: Weights, ranks: Sequence[Capacity]) -> list[int]:
    """Cut the calls into contiguous parts, none empty, one for each of `ranks`. Returns the length of each part.

    Where memory is short all ranks are filled to about the same share. Among equally good cuts the first parts are the
    longest. The head counts for memory alone, since its time is the same wherever the layers are.
    """
    cuts = _Cuts(weights, ranks)
    return cuts.best(max(_COMFORTABLE, cuts.least_fullness()))


def expected_seconds(weights: Weights, split: list[range], ranks: Sequence[Capacity]) -> list[float]:
    """What a token takes on each rank, by the bytes that are read there; 0: the rank's speed is not known."""
    reads = [sum(weights.reads[call] for call in calls) for calls in split]
    reads[0] += weights.tail
    speeds = [rank.bytes_per_second for rank in ranks] or [0.0] * len(split)
    return [read / speed if speed else 0.0 for read, speed in zip(reads, speeds, strict=True)]


def slownesses(ranks: Sequence[Capacity]) -> list[int]:
    """By how much each is slower than the fastest, in steps, cut off: measurements differ a little each time."""
    fastest = max(rank.bytes_per_second for rank in ranks)
    return [int(_STEPS * fastest / (rank.bytes_per_second or fastest or 1.0)) or _STEPS for rank in ranks]


class _Cuts:
    """All cuts, searched from their ends; times are bytes times slowness, in whole numbers, equal on all ranks."""

    def __init__(self, weights: Weights, ranks: Sequence[Capacity]) -> None:
        self._sizes = [0, *accumulate(weights.sizes)]
        self._reads = [0, *accumulate(weights.reads)]
        self._shared = [weights.shared] + [0] * (len(ranks) - 1)
        self._memory = [rank.memory_bytes for rank in ranks]
        self._slowness = slownesses(ranks)
        self._count = len(weights.sizes)

    def least_fullness(self) -> int:
        """Of the cut that fills the fullest rank least, how full that is, in thousandths."""
        best = {self._count: 0}
        for rank in reversed(range(len(self._memory))):
            best = {
                start: min(
                    max(self._fullness(rank, start, stop), best[stop])
                    for stop in self._stops(rank, start)
                    if stop in best
                )
                for start in self._starts(rank)
            }
        return best[0]

    def best(self, fullest: int) -> list[int]:
        """The lengths of the parts of the best cut that fills no rank to more than `fullest` thousandths."""
        tails = self._tails(fullest)
        total, most = min(tails[0][0], key=lambda cost: (sum(cost), cost[1]))
        parts, start = [], 0
        for rank in range(len(self._memory)):
            stop = max(
                stop
                for stop in self._stops(rank, start)
                if self._fullness(rank, start, stop) <= fullest
                and self._time(rank, start, stop) <= most
                and any(
                    self._time(rank, start, stop) + later <= total and slowest <= most
                    for later, slowest in tails[rank + 1].get(stop, [])
                )
            )
            total -= self._time(rank, start, stop)
            parts.append(stop - start)
            start = stop
        return parts

    def _tails(self, fullest: int) -> list[dict[int, list[_Cost]]]:
        """By rank and its first call, the costs of it and the later ranks that are not worse than another in both."""
        tails: list[dict[int, list[_Cost]]] = [{} for _ in self._memory] + [{self._count: [(0, 0)]}]
        for rank in reversed(range(len(self._memory))):
            for start in self._starts(rank):
                costs = [
                    (own + later, max(own, slowest))
                    for stop in self._stops(rank, start)
                    if self._fullness(rank, start, stop) <= fullest
                    for own in [self._time(rank, start, stop)]
                    for later, slowest in tails[rank + 1].get(stop, [])
                ]
                tails[rank][start] = _undominated(costs)
        return tails

    def _starts(self, rank: int) -> range:
        """Where the part of `rank` can begin, if no rank's is empty."""
        later = len(self._memory) - rank
        return range(1) if rank == 0 else range(rank, self._count - later + 1)

    def _stops(self, rank: int, start: int) -> range:
        """Where a part that begins at `start` can end."""
        later = len(self._memory) - rank - 1
        return range(start + 1, self._count - later + 1) if later else range(self._count, self._count + 1)

    def _fullness(self, rank: int, start: int, stop: int) -> int:
        """Thousandths of the rank's memory that these calls' weights fill, rounded up; 0 where it is not known."""
        held = self._sizes[stop] - self._sizes[start] + self._shared[rank]
        return -(-1000 * held // self._memory[rank]) if self._memory[rank] else 0

    def _time(self, rank: int, start: int, stop: int) -> int:
        return self._slowness[rank] * (self._reads[stop] - self._reads[start])


def _undominated(costs: list[_Cost]) -> list[_Cost]:
    kept: list[_Cost] = []
    for cost in sorted(costs):
        if not kept or cost[1] < kept[-1][1]:
            kept.append(cost)
    return kept
