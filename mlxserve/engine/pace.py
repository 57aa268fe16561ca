"""How long passes take on this machine and this model: measured at start-up and ever after, asked by the scheduler.

What counts is how many tokens a pass has, rows times length: a few cost about as much as one, since the weights must be
read anyway, and many cost in proportion. On several ranks a pass takes as many ticks as there are ranks; a tick is
shorter or longer when other ranks compute at the same time, so both are kept. And it takes longer where guesses are
verified, since the model's head then works at all positions, and not at the last one of each row alone.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from typing import Literal

_NEWEST = 0.2
"""Weight of the newest measurement."""
_SPIKE = 1.5
"""What takes so many times as long as usual was disturbed by something else, and counts as no more than that."""
_FEW = 3
"""Measurements after which a figure is trusted."""


Kind = Literal["alone", "together", "verifying"]
"""Of a tick: one rank computes, several do, or a pass verifies guesses, alone."""


class Pace:
    """Seconds of ticks by the tokens of their largest pass, and by what kind of tick it is."""

    def __init__(self, ranks: int) -> None:
        self.ranks = ranks
        self._tables: dict[Kind, _Table] = {"alone": _Table(), "together": _Table(), "verifying": _Table()}

    def note(self, tokens: int, seconds: float, kind: Kind = "alone") -> None:
        """A tick whose largest pass has `tokens` took `seconds`.

        The first of a size that verifies is left out: kernels may be made for it, and it would seem never to pay.
        """
        table = self._tables[kind]
        if kind != "verifying" or not table.begin(tokens):
            table.note(tokens, seconds)

    def knows(self, tokens: int, kind: Kind = "alone") -> bool:
        """Whether ticks of about this size have been measured a few times."""
        return self._tables[kind].count(tokens) >= _FEW

    def forget(self, tokens: int, kind: Kind = "alone") -> None:
        """Measure ticks of about this size anew."""
        self._tables[kind].forget(tokens)

    def tick(self, tokens: int, kind: Kind = "alone") -> float:
        """Seconds of a tick whose largest pass has `tokens`; 0 where nothing was ever measured.

        Of other kinds than alone less may have been measured: beside that it is as much longer as it was there.
        """
        alone, table = self._tables["alone"], self._tables[kind]
        nearest = min(max(tokens, table.smallest), table.largest)
        if table is alone or tokens == nearest or not alone.measured:
            return table.seconds(tokens)
        longer = table.seconds(nearest) / alone.seconds(nearest) if table.measured else 1.0
        return longer * alone.seconds(tokens)

    def seconds(self, tokens: int) -> float:
        """Seconds of a pass of `tokens` through all ranks, alone."""
        return self.ranks * self.tick(tokens)

    def verifying(self, tokens: int) -> float:
        """The same of a pass that verifies guesses: `tokens` are those of all rows with their guesses."""
        return self.ranks * self.tick(tokens, "verifying")

    def largest(self, seconds: float, most: int, step: int = 1, kind: Kind = "alone") -> int:
        """The most tokens, a multiple of `step` and at most `most`, that a tick of `seconds` has time for; or 0."""
        low, high = 0, max(0, most) // step
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self.tick(middle * step, kind) <= seconds else (low, middle - 1)
        return low * step


class _Table:
    """Measured seconds by size; sizes of about the same are one."""

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._begun: set[int] = set()
        self._sizes: list[float] = []
        self._seconds: list[float] = []
        self._beyond = 0.0
        """Seconds that each token takes beyond those measured."""

    @property
    def measured(self) -> bool:
        return bool(self._entries)

    @property
    def smallest(self) -> int:
        """The fewest tokens of a pass that was measured."""
        return math.ceil(self._sizes[0]) if self._sizes else 0

    @property
    def largest(self) -> int:
        """The most tokens of a pass that was measured."""
        return int(self._sizes[-1]) if self._sizes else 0

    def begin(self, tokens: int) -> bool:
        """Whether nothing of about this size has come before."""
        new = _class(tokens) not in self._begun
        self._begun.add(_class(tokens))
        return new

    def note(self, tokens: int, seconds: float) -> None:
        entry = self._entries.setdefault(_class(tokens), _Entry())
        entry.note(tokens, seconds)
        entries = sorted(self._entries.values(), key=lambda one: one.tokens)
        self._sizes = [entry.tokens for entry in entries]
        # Fewer tokens never take longer: where they seem to, something else disturbed that measurement.
        self._seconds = list(accumulate((entry.seconds for entry in reversed(entries)), min))[::-1]
        self._beyond = self._slope_beyond()

    def count(self, tokens: int) -> int:
        entry = self._entries.get(_class(tokens))
        return entry.count if entry else 0

    def forget(self, tokens: int) -> None:
        if entry := self._entries.get(_class(tokens)):
            entry.count = 0

    def seconds(self, tokens: int) -> float:
        """Straight lines between what was measured; beyond, on as `_slope_beyond` says."""
        sizes, seconds = self._sizes, self._seconds
        if not sizes:
            return 0.0
        at = bisect_left(sizes, tokens)
        if at == 0:
            return seconds[0]
        if at == len(sizes):
            return seconds[-1] + self._beyond * (tokens - sizes[-1])
        slope = (seconds[at] - seconds[at - 1]) / (sizes[at] - sizes[at - 1])
        return seconds[at - 1] + slope * (tokens - sizes[at - 1])

    def _slope_beyond(self) -> float:
        """As from clearly smaller sizes to the largest, by the steepest such line, since it grows; not as between the
        last two, whose difference may be noise. Half in proportion at least.
        """
        size, seconds = self._sizes[-1], self._seconds[-1]
        smaller = [each for each in zip(self._sizes, self._seconds, strict=True) if each[0] <= size / 2]
        return max([seconds / size / 2, *((seconds - less) / (size - fewer) for fewer, less in smaller)])


class _Entry:
    """A running mean."""

    def __init__(self) -> None:
        self.count = 0
        self.tokens = 0.0
        self.seconds = 0.0

    def note(self, tokens: int, seconds: float) -> None:
        self.count += 1
        if self.tokens == 0.0:
            self.tokens, self.seconds = float(tokens), seconds
            return
        if self.count > _FEW:
            seconds = min(seconds, _SPIKE * self.seconds)
        self.tokens += _NEWEST * (tokens - self.tokens)
        self.seconds += _NEWEST * (seconds - self.seconds)


def _class(tokens: int) -> int:
    """Equal for sizes of about the same: each up to 16, then eight to a doubling."""
    if tokens <= 16:
        return tokens
    doubling = tokens.bit_length() - 4
    return (doubling << 16) + (tokens >> doubling)
