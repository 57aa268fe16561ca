"""Drafts from text that is there: it goes on as it did where its last tokens stood before.

A place that fits the end of the text is followed for as long as it fits. So each token that comes shows, at no cost,
whether a guess would have been right, and guesses are priced before any is made.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice

from mlxserve.engine.earlier_answers import BORDER, COMPARED, EarlierAnswers, Places, Tokens, common

_TRIED_PLACES = 8
"""Earlier places of the last two tokens that are compared with the end, the latest first."""
_RESUMED_AFTER = 4
"""After so many fitting tokens, a single one that does not is taken for a replaced one."""

_OWN = (0.4, 0.3, 0.45, 0.6, 0.75, 0.9, 0.95)
"""What is expected of a sequence's own text: the middle between prose and text that is copied."""
_OTHERS = (0.1, 0.2, 0.3, 0.3, 0.4, 0.8, 0.95)
"""Of other answers: they begin alike, behind the same words of a template, and part soon; or they are the same."""


class HitRates:
    """How often a guess is right, by the number of tokens before it that fit; what is recent counts most."""

    _LENGTHS = (1, 2, 3, 5, 9, 19)
    """The longest fit of each class but the last."""
    _WEIGHT = 3.0
    """What is expected at first counts as if so many guesses had shown it."""
    _FADING = 0.95

    def __init__(self, expected: tuple[float, ...]) -> None:
        """`expected` of each class."""
        self._hits = [each * self._WEIGHT for each in expected]
        self._tries = [self._WEIGHT] * len(expected)

    def rate(self, length: int) -> float:
        """The chance that the token after `length` fitting ones fits too."""
        group = bisect_left(self._LENGTHS, length)
        return self._hits[group] / self._tries[group]

    def note(self, length: int, hit: bool) -> None:
        """A token came after `length` fitting ones."""
        group = bisect_left(self._LENGTHS, length)
        self._hits[group] = self._hits[group] * self._FADING + hit
        self._tries[group] = self._tries[group] * self._FADING + 1


class Drafts:
    """The guesses for one sequence: from its own text, or from other answers where these fit longer."""

    def __init__(self, prompt_length: int, earlier: EarlierAnswers | None = None) -> None:
        self.length = 0
        """Tokens at the end that fit the place which guesses are taken from; 0: there is none."""
        self._own, self._others = HitRates(_OWN), HitRates(_OTHERS)
        """Of the answer's tokens alone: how a prompt repeats itself says little about the answer."""
        self._prompt_length = prompt_length
        self._earlier_answers = earlier
        self._other: Tokens | None = None
        """Where the place is, if not in the sequence's own text."""
        self._next = 0
        self._seen = 0
        self._places = Places()

    @property
    def rates(self) -> HitRates:
        """Of guesses from where they are taken now."""
        return self._own if self._other is None else self._others

    def follow(self, tokens: list[int]) -> None:
        """Take in what `tokens`, prompt and answer so far, has more than last time."""
        for position in range(self._seen, len(tokens)):
            hit = self._compare(tokens, position)
            pair = tokens[position - 1] << 32 | tokens[position] if position else None
            self._places.note(pair)
            if not hit and pair is not None and position >= self._prompt_length - 1:
                self._find(tokens, position + 1, self._places.of(pair))
        self._seen = len(tokens)

    def guess(self, tokens: list[int], count: int) -> list[int]:
        """The next `count` tokens, or fewer; a place that runs into the end of `tokens` goes on as a loop."""
        if not self.length:
            return []
        if self._other is not None:
            following = self._other[self._next : self._next + count]
            return list(following[: following.index(BORDER)] if BORDER in following else following)
        period = len(tokens) - self._next
        return [tokens[self._next + index % period] for index in range(count)]

    def _compare(self, tokens: list[int], position: int) -> bool:
        """Whether the token at `position` is the one that was to be guessed."""
        if not self.length:
            return False
        expected = (tokens if self._other is None else self._other)[self._next]
        if expected == BORDER:
            self.length = 0
            return False
        hit = expected == tokens[position]
        self.rates.note(self.length, hit)
        resumed = self.length >= _RESUMED_AFTER
        self._next += 1
        self.length = self.length + 1 if hit else int(resumed)
        return hit

    def _find(self, tokens: list[int], end: int, places: Iterator[int]) -> None:
        """Follow the place that fits the last tokens before `end` best, if there is one; among equals the latest."""
        best = 1
        for place in islice(places, 1, 1 + _TRIED_PLACES):  # the first is the end itself
            length = common(tokens, place, tokens, end)
            if length > best:
                best, self.length, self._next, self._other = length, length, place, None
        if self._earlier_answers and best < COMPARED and (found := self._earlier_answers.find(tokens, end, best)):
            self.length, self._other, self._next = found
