"""The two collectives that carry what every rank gives to the rank after it.

Both lay all ranks' 64-bit words into one buffer, each rank's in a place of its own. `Sum` adds up buffers that are zero
elsewhere: words, not floats, because x + 0 is exact for integers while -0.0 + 0.0 loses its sign. `Gather` puts equal
shares side by side, so each is as large as the largest.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, Protocol

import mlx.core as mx

PIECE_WORDS_PER_RANK = 32_768
"""MLX's ring cuts a rank's share above this many elements, or 512 KiB, into parallel packets that race."""

Way = Literal["all_sum", "all_gather"]


class Collective(Protocol):
    """One way to carry words."""

    def buffer_words(self, words: list[int]) -> int:
        """Size of the buffer where the ranks give so many `words`: what the time depends on."""
        ...

    def carry(self, words: list[int], mine: mx.array | None, giver: int) -> mx.array:
        """Give `mine`, words that are evaluated, and return what rank `giver` gives; all ranks call this together.

        What is returned must be evaluated before anything else, also where it is empty: the last piece travels then.
        """
        ...


class Sum:
    """`all_sum` of buffers as long as all ranks' words together."""

    def __init__(self, group: mx.distributed.Group) -> None:
        self._group = group

    def buffer_words(self, words: list[int]) -> int:
        """See Collective."""
        return sum(words)

    def carry(self, words: list[int], mine: mx.array | None, giver: int) -> mx.array:
        """See Collective."""
        rank = self._group.rank()
        buffer = _surrounded(sum(words[:rank]), mine, sum(words[rank + 1 :]))
        start = sum(words[:giver])
        stop = start + words[giver]
        step = PIECE_WORDS_PER_RANK * self._group.size()
        taken: list[mx.array] = []
        for first in range(0, buffer.size, step):
            mx.eval(taken)
            piece = mx.distributed.all_sum(buffer[first : first + step], group=self._group, stream=mx.cpu)
            taken.append(piece[max(0, start - first) : max(0, stop - first)])
        return joined(taken)


class Gather:
    """`all_gather` of shares as long as the longest."""

    def __init__(self, group: mx.distributed.Group) -> None:
        self._group = group

    def buffer_words(self, words: list[int]) -> int:
        """See Collective."""
        return len(words) * max(words)

    def carry(self, words: list[int], mine: mx.array | None, giver: int) -> mx.array:
        """See Collective."""
        length = max(words)
        share = _surrounded(0, mine, length - words[self._group.rank()])
        taken: list[mx.array] = []
        for first in range(0, length, PIECE_WORDS_PER_RANK):
            mx.eval(taken)
            own = share[first : first + PIECE_WORDS_PER_RANK]
            piece = mx.distributed.all_gather(own, group=self._group, stream=mx.cpu)
            start = giver * own.size
            taken.append(piece[start : start + min(own.size, max(0, words[giver] - first))])
        return joined(taken)


def _surrounded(before: int, mine: mx.array | None, after: int) -> mx.array:
    """`mine` with so many zeros before and after it."""
    parts = [_zeros(before)] if before else []
    parts += [] if mine is None else [mine]
    parts += [_zeros(after)] if after else []
    return joined(parts)


@lru_cache(maxsize=8)
def _zeros(words: int) -> mx.array:
    """Kept, as a decode step's are the next one's too."""
    zeros = mx.zeros((words,), mx.uint64)
    mx.eval(zeros)
    return zeros


def joined(parts: list[mx.array]) -> mx.array:
    """`parts` one after another."""
    return parts[0] if len(parts) == 1 else mx.concatenate(parts)
