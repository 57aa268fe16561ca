"""Whether guessing pays: how many tokens a pass should verify, so that the most tokens come a second."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import accumulate, takewhile
from operator import mul
from typing import Protocol

from mlxserve.engine.drafts import Drafts
from mlxserve.engine.earlier_answers import EarlierAnswers
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
_DRAFTED = 0.7
"""The chance of a draft model's guess, before any was seen."""
_DRAFTED_WEIGHT = 3.0
_CHOICES_BETWEEN_TRIALS = 100
"""What is not done is not measured: so often passes with guesses are thought to take no longer than others as large."""
_PROMISES_FADING = 0.98
"""Of what guesses promised at the last passes, by a logarithm of the speed: what is recent counts most."""
_ROUNDS_APART = 2
"""Answers one after the other in which those that no longer end together do not."""
_FADING = 0.95
_FORGOTTEN_AFTER = 400
"""Tokens after which a draft model is thought of as before any guess of it was seen."""


class DraftingModel(Protocol):
    """A second model that guesses; see `draft_model.DraftModel`."""

    def seconds(self, rows: int) -> float:
        """What guessing one token a row takes."""
        ...

    def prepare(self, sequences: list[Sequence]) -> list[bool]:
        """Read on in `sequences`; for which of them can be guessed?"""
        ...

    def guess(self, sequences: list[Sequence], count: int) -> list[list[int]]:
        """The next `count` tokens of each."""
        ...


class Account:
    """What guesses from one source have cost a sequence, and won."""

    def __init__(self) -> None:
        self._debt = 0.0

    def may_guess(self, emitted: int) -> bool:
        """Whether the sequence, with so many tokens of answer, can bear to lose more."""
        return self._debt <= _GRANT + _LEEWAY * emitted

    def settle(self, cost: float, right: int) -> None:
        """Guesses of which `right` were right cost the time of so many tokens."""
        self._debt = max(self._debt + cost - right, -_MOST_CREDIT)


class Speculated:
    """What is known of one sequence's guesses."""

    def __init__(self, sequence: Sequence, earlier: EarlierAnswers) -> None:
        self.drafts = Drafts(len(sequence.prompt), earlier)
        self.found = Account()
        """Of guesses from texts, and from grammars."""
        self.drafted = Account()
        """Of a draft model's."""
        self._hits = _DRAFTED * _DRAFTED_WEIGHT
        self._tries = _DRAFTED_WEIGHT
        self._drafted_at = 0

    def chances(self, sequence: Sequence, most: int) -> list[float]:
        """Of each of up to `most` guesses behind the known tokens, the chance that it and all before it are right."""
        self.drafts.follow(sequence.tokens)
        if not self.found.may_guess(sequence.emitted):
            return []
        forced = sequence.matcher.forced() if sequence.matcher else []
        if forced:
            return _along([_FORCED] * min(most, len(forced)))
        length = self.drafts.length
        return _along([self.drafts.rates.rate(length + ahead) for ahead in range(most)]) if length else []

    def chances_of_model(self, sequence: Sequence, most: int) -> list[float]:
        """The same of a draft model's guesses."""
        if not self.drafted.may_guess(sequence.emitted):
            return []
        forgotten = min(1.0, (sequence.emitted - self._drafted_at) / _FORGOTTEN_AFTER)
        seen = self._hits / self._tries
        return _along([seen + forgotten * (_DRAFTED - seen)] * most)

    def guess(self, sequence: Sequence, count: int) -> list[int]:
        """The next `count` tokens, or fewer."""
        if not sequence.matcher:
            return self.drafts.guess(sequence.tokens, count)
        forced = sequence.matcher.forced()[:count]
        return forced or sequence.matcher.permitted(self.drafts.guess(sequence.tokens, count))

    def note_drafted(self, sequence: Sequence, right: int, guessed: int) -> None:
        """Of `guessed` tokens of a draft model so many were right."""
        tried = min(right + 1, guessed)
        fading = _FADING**tried
        self._hits = self._hits * fading + right
        self._tries = self._tries * fading + tried
        self._drafted_at = sequence.emitted


@dataclass
class Speculation:
    """Chooses how much is guessed, from measured times and from how often guesses were right."""

    seconds: Callable[[int], float]
    """What a pass of so many tokens takes, all rows together."""
    verifying: Callable[[int], float]
    """The same of a pass that verifies guesses."""
    most: int = MOST_GUESSES
    """Guesses a row."""
    overhead: float = 0.0
    """Seconds that a pass takes longer because it cannot be enqueued before the last one's tokens are read."""
    draft_model: DraftingModel | None = None
    _earlier: EarlierAnswers = field(default_factory=EarlierAnswers, init=False)
    _choices: int = field(default=0, init=False)
    _promised: float = field(default=0.0, init=False)
    """The sum of what guesses promised, whether or not they were made …"""
    _passes: float = field(default=0.0, init=False)
    """… at so many passes."""

    def promises(self, sequences: list[Sequence]) -> bool:
        """Whether it pays to read the tokens on their way before the next pass, as `guesses` needs it."""
        return self._choose(sequences)[0] > 0

    def guesses(self, sequences: list[Sequence]) -> Guesses | None:
        """For the next pass of a batch, all whose tokens are known; None if a pass without is faster."""
        count, drafted = self._choose(sequences)
        if not count:
            return None
        rows = [[] if by_model else self._guess(one, count) for one, by_model in zip(sequences, drafted, strict=True)]
        if any(drafted):
            self._draft(sequences, drafted, count, rows)
        return Guesses(rows, drafted if any(drafted) else []) if any(rows) else None

    def settle(self, sequences: list[Sequence], guesses: Guesses, verdicts: list[Verdict]) -> None:
        """Learn from a pass that has landed."""
        rows, plain = len(sequences), self.seconds(len(sequences))
        extra = self.verifying(rows * (1 + guesses.count)) + self.overhead - plain
        cost = extra / plain * rows / sum(map(bool, guesses.rows))
        drafted = guesses.drafted or [False] * rows
        cost_of_model = self._drafting_seconds(sum(drafted), guesses.count) / plain * rows / max(1, sum(drafted))
        for sequence, row, by_model, verdict in zip(sequences, guesses.rows, drafted, verdicts, strict=True):
            right = max(0, len(verdict.tokens) - 1)
            if sequence.speculated is None or not row:
                continue
            if by_model:
                sequence.speculated.drafted.settle(cost + cost_of_model, right)
                sequence.speculated.note_drafted(sequence, right, len(row))
            else:
                sequence.speculated.found.settle(cost, right)

    def ended(self, sequence: Sequence) -> None:
        """No more is asked of it; others may go on as it did."""
        self._earlier.add(sequence.prompt, sequence.answered)

    def _choose(self, sequences: list[Sequence]) -> tuple[int, list[bool]]:
        """How many tokens are guessed a row, and for which rows by the draft model."""
        self._choices += 1
        chances = [self._chances(sequence) for sequence in sequences]
        nobody = [False] * len(sequences)
        gain, count = self._best(chances)
        self._promised = self._promised * _PROMISES_FADING + gain / len(sequences)
        self._passes = self._passes * _PROMISES_FADING + 1
        if count and not self._may_part(sequences):
            gain, count = 0.0, 0
        if self.draft_model is None:
            return count, nobody
        modelled = self._chances_of_model(sequences, chances)
        drafted = [sum(model) > sum(found) for model, found in zip(modelled, chances, strict=True)]
        better = [max(pair, key=sum) for pair in zip(modelled, chances, strict=True)]
        gain_with_model, count_with_model = self._best(better, sum(drafted))
        return (count_with_model, drafted) if gain_with_model > gain else (count, nobody)

    def _may_part(self, sequences: list[Sequence]) -> bool:
        """Whether guesses promise to win more than it costs that answers no longer end together.

        Those with as many tokens to go do so, as in a batch job, if they reach their bounds. Then those that come in
        their place are read together; else each takes a pass of its own, for which all weights are read. So do those
        that come after them, as they do not end together either.
        """
        left = [sequence.max_tokens - sequence.sampled for sequence in sequences]
        parting = len(left) - len(set(left))
        won = self._promised / self._passes * sum(left) / len(left)
        return won * self.seconds(len(left)) >= _ROUNDS_APART * parting * self.seconds(1)

    def _chances(self, sequence: Sequence) -> list[float]:
        """Of each guess behind the last token drawn, which need not be known."""
        unread = sequence.sampled - sequence.emitted
        most = self._most(sequence)
        if most < 1:
            return []
        if sequence.speculated is None:
            sequence.speculated = Speculated(sequence, self._earlier)
        return sequence.speculated.chances(sequence, unread + most)[unread:]

    def _chances_of_model(self, sequences: list[Sequence], found: list[list[float]]) -> list[list[float]]:
        """The draft model's, where it can guess and what was found in the text promises less."""
        assert self.draft_model is not None
        chances = [
            one.speculated.chances_of_model(one, self._most(one)) if one.speculated and not one.done else []
            for one in sequences
        ]
        wanted = [sum(row) > sum(other) for row, other in zip(chances, found, strict=True)]
        asked = [sequence for sequence, want in zip(sequences, wanted, strict=True) if want]
        ready = iter(self.draft_model.prepare(asked))
        return [row if want and next(ready) else [] for row, want in zip(chances, wanted, strict=True)]

    def _guess(self, sequence: Sequence, count: int) -> list[int]:
        most = min(count, self._most(sequence))
        return sequence.speculated.guess(sequence, most) if sequence.speculated and most > 0 else []

    def _draft(self, sequences: list[Sequence], drafted: list[bool], count: int, rows: list[list[int]]) -> None:
        """Put the draft model's guesses into the `rows` for which it is asked."""
        assert self.draft_model is not None
        asked = [number for number, by_model in enumerate(drafted) if by_model]
        guesses = self.draft_model.guess([sequences[number] for number in asked], count)
        for number, guess in zip(asked, guesses, strict=True):
            sequence = sequences[number]
            guess = guess[: self._most(sequence)]
            rows[number] = sequence.matcher.permitted(guess) if sequence.matcher else guess

    def _most(self, sequence: Sequence) -> int:
        """Guesses that can count: with them all right, one more token is drawn."""
        return 0 if sequence.done else min(self.most, sequence.max_tokens - sequence.sampled - 1)

    def _best(self, chances: list[list[float]], drafted: int = 0) -> tuple[float, int]:
        """The guesses a row, perhaps 0, by which the geometric mean of the rows' speeds is expected to be highest.

        Not their sum: rows without guesses wait for those that have some, and must not wait for long. With what is won,
        as a logarithm. `drafted` rows are guessed by the draft model.
        """
        rows = len(chances)
        guessing = [row for row in chances if row]
        plain = self.seconds(rows)
        if not guessing or not plain:
            return 0.0, 0
        best, count = rows * math.log(_MARGIN), 0
        tries = self._choices % _CHOICES_BETWEEN_TRIALS < 2  # the tokens on their way are read by one, then guessed on
        price = self.seconds if tries else self.verifying
        for guessed in range(1, max(map(len, guessing)) + 1):
            expected = [sum(row[:guessed], 1.0) for row in guessing]
            seconds = price(rows * (1 + guessed)) + self.overhead + self._drafting_seconds(drafted, guessed)
            gain = sum(map(math.log, expected)) - rows * math.log(seconds / plain)
            if gain > best:
                best, count = gain, guessed
        return (best, count) if count else (0.0, 0)

    def _drafting_seconds(self, rows: int, guesses: int) -> float:
        return guesses * self.draft_model.seconds(rows) if self.draft_model and rows else 0.0


def _along(rates: list[float]) -> list[float]:
    """The chance that a guess and all before it are right, as long as it is worth a guess."""
    return list(takewhile(lambda chance: chance >= _LEAST_CHANCE, accumulate(rates, mul)))
