"""Answers that have ended, as a source of drafts for others: much is written more than once, to whoever asks.

An agent's calls of tools, the answer to a question that is asked again, phrases that a model is fond of.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import islice

Tokens = Sequence[int]

BORDER = -1
"""Stands behind each answer."""
COMPARED = 16
"""Tokens before a place that are compared."""
_TRIED_PLACES = 4
"""Places of the last three tokens that are compared with the end, the latest first, in each volume."""
_FEWEST = 8
"""Tokens of answers that are worth keeping …"""
_MOST = 8192
"""… and as many of one as are kept: all are noted at once, while others wait."""
_VOLUME = 65_536
"""Tokens after which the older half is forgotten: about 8 MB."""


class EarlierAnswers:
    """The latest answers, up to a bound: two volumes, of which the older is forgotten when the other is full."""

    def __init__(self, volume: int = _VOLUME) -> None:
        """`volume`: tokens of each."""
        self._size = volume
        self._volumes = [_Volume()]

    def add(self, prompt: Tokens, answer: Tokens) -> None:
        """Keep an answer, with the end of what it was given to."""
        if len(answer) < _FEWEST:
            return
        if len(self._volumes[0].tokens) >= self._size:
            self._volumes = [_Volume(), self._volumes[0]]
        self._volumes[0].add([*prompt[-COMPARED:], *answer[:_MOST]])

    def find(self, tokens: Tokens, end: int, longer_than: int) -> tuple[int, Tokens, int] | None:
        """The place that fits the last tokens before `end` best, if more of them than so many do.

        Returns how many fit, the text and where it goes on there.
        """
        if end < 3:
            return None
        best, found = longer_than, None
        for volume in self._volumes:
            for place in volume.places(tokens, end):
                length = common(volume.tokens, place, tokens, end)
                if length > best:
                    best, found = length, (length, volume.tokens, place)
        return found


class _Volume:
    """Answers behind one another, and where each three tokens of them are."""

    def __init__(self) -> None:
        self.tokens = array("i")
        self._places = Places()
        self._known = set[int]()

    def add(self, tokens: list[int]) -> None:
        fingerprint = hash(tuple(tokens))
        if fingerprint in self._known:
            return
        self._known.add(fingerprint)
        self.tokens.extend([*tokens, BORDER])
        for three in (None, None, *zip(tokens, tokens[1:], tokens[2:], strict=False), None):
            self._places.note(_key(*three) if three else None)

    def places(self, tokens: Tokens, end: int) -> Iterator[int]:
        """Some where the three tokens before `end` go on, the latest first."""
        return islice(self._places.of(_key(*tokens[end - 3 : end])), _TRIED_PLACES)


class Places:
    """Where in a text the same few tokens stand: each time that they do leads to the time before."""

    def __init__(self) -> None:
        self._latest: dict[int, int] = {}
        self._earlier = array("i")

    def note(self, key: int | None) -> None:
        """The text has one more token, with which it ends in the tokens that `key` stands for."""
        self._earlier.append(-1 if key is None else self._latest.get(key, -1))
        if key is not None:
            self._latest[key] = len(self._earlier)

    def of(self, key: int) -> Iterator[int]:
        """The places at which the text goes on behind `key`, the latest first."""
        place = self._latest.get(key, -1)
        while place >= 0:
            yield place
            place = self._earlier[place - 1]


def _key(first: int, second: int, third: int) -> int:
    """Smaller than a tuple of them."""
    return first << 42 | second << 21 | third


def common(text: Tokens, place: int, tokens: Tokens, end: int) -> int:
    """How many of up to 16 tokens before `place` in `text` are those before `end` in `tokens`."""
    most = min(place, end, COMPARED)
    return next((back for back in range(most) if text[place - 1 - back] != tokens[end - 1 - back]), most)
