"""Whether guessing pays: how many tokens a pass should verify, so that the most tokens come a second."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, takewhile
from operator import mul

from mlxserve.engine.drafts import Drafts
from mlxserve.engine.sequence import Sequence
from mlxserve.engine.verification import Guesses, Verdict

MOST_GUESSES = 15
_FORCED = 0.95
"""The chance of a token whose text a grammar forces."""
_LEAST_CHANCE = 0.05
"""Guesses less likely to be reached and right than this are not made."""
_MARGIN = 1.04
"""Speed that must be expected of a pass with guesses, by that without."""
_GRANT = 1.0
"""Tokens, by the time that one takes without guessing, that a sequence may lose by guesses at once …"""
_LEEWAY = 0.02
"""… and for each token of its answer."""
_MOST_CREDIT = 4.0
"""What right guesses won is remembered up to so many tokens."""


class Speculated:
    """What is known of one sequence's guesses."""

    def __init__(self, sequence: Sequence) -> None:
        self.drafts = Drafts(len(sequence.prompt))
        self._debt = 0.0

    def chances(self, sequence: Sequence, most: int) -> list[float]:
        """Of each of up to `most` guesses behind the known tokens, the chance that it and all before it are right."""
        self.drafts.follow(sequence.tokens)
        if self._debt > _GRANT + _LEEWAY * sequence.emitted:
            return []
        forced = sequence.matcher.forced() if sequence.matcher else []
        if forced:
            rates = [_FORCED] * min(most, len(forced))
        elif length := self.drafts.length:
            rates = [self.drafts.rates.rate(length + ahead) for ahead in range(most)]
        else:
            return []
        return list(takewhile(lambda chance: chance >= _LEAST_CHANCE, accumulate(rates, mul)))

    def guess(self, sequence: Sequence, count: int) -> list[int]:
        """The next `count` tokens, or fewer."""
        if not sequence.matcher:
            return self.drafts.guess(sequence.tokens, count)
        forced = sequence.matcher.forced()[:count]
        return forced or sequence.matcher.permitted(self.drafts.guess(sequence.tokens, count))

    def settle(self, cost: float, right: int) -> None:
        """Guesses of which `right` were right cost the time of so many tokens."""
        self._debt = max(self._debt + cost - right, -_MOST_CREDIT)


@dataclass
class Speculation:
    """Chooses how much is guessed, from measured times and from how often guesses were right."""

    seconds: Callable[[int], float]
    """What a pass of so many tokens takes, all rows together."""
    most: int = MOST_GUESSES
    """Guesses a row."""
    overhead: float = 0.0
    """Seconds that a pass takes longer because it cannot be enqueued before the last one's tokens are read."""

    def promises(self, sequences: list[Sequence]) -> bool:
        """Whether it pays to read the tokens on their way before the next pass, as `guesses` needs it."""
        return self._best_count([self._chances(sequence) for sequence in sequences]) > 0

    def guesses(self, sequences: list[Sequence]) -> Guesses | None:
        """For the next pass of a batch, all whose tokens are known; None if a pass without is faster."""
        count = self._best_count([self._chances(sequence) for sequence in sequences])
        if not count:
            return None
        rows = [self._guess(sequence, count) for sequence in sequences]
        return Guesses(rows) if any(rows) else None

    def settle(self, sequences: list[Sequence], guesses: Guesses, verdicts: list[Verdict]) -> None:
        """Learn from a pass that has landed."""
        rows, plain = len(sequences), self.seconds(len(sequences))
        extra = self.seconds(rows * (1 + guesses.count)) + self.overhead - plain
        cost = extra / plain * rows / sum(map(bool, guesses.rows))
        for sequence, row, verdict in zip(sequences, guesses.rows, verdicts, strict=True):
            if row and sequence.speculated:
                sequence.speculated.settle(cost, max(0, len(verdict.tokens) - 1))

    def _chances(self, sequence: Sequence) -> list[float]:
        """Of each guess behind the last token drawn, which need not be known."""
        unread = sequence.sampled - sequence.emitted
        most = self._most(sequence)
        if most < 1:
            return []
        if sequence.speculated is None:
            sequence.speculated = Speculated(sequence)
        return sequence.speculated.chances(sequence, unread + most)[unread:]

    def _guess(self, sequence: Sequence, count: int) -> list[int]:
        most = min(count, self._most(sequence))
        return sequence.speculated.guess(sequence, most) if sequence.speculated and most > 0 else []

    def _most(self, sequence: Sequence) -> int:
        """Guesses that can count: with them all right, one more token is drawn."""
        return 0 if sequence.done else min(self.most, sequence.max_tokens - sequence.sampled - 1)

    def _best_count(self, chances: list[list[float]]) -> int:
        """The guesses a row by which the geometric mean of the rows' speeds is expected to be highest; perhaps 0.

        Not their sum: rows without guesses wait for those that have some, and must not wait for long.
        """
        rows = len(chances)
        guessing = [row for row in chances if row]
        if not guessing:
            return 0
        plain = self.seconds(rows)
        best, count = rows * math.log(_MARGIN), 0
        for guessed in range(1, max(map(len, guessing)) + 1):
            expected = [sum(row[:guessed], 1.0) for row in guessing]
            slower = (self.seconds(rows * (1 + guessed)) + self.overhead) / plain
            gain = sum(map(math.log, expected)) - rows * math.log(slower)
            if gain > best:
                best, count = gain, guessed
        return count
