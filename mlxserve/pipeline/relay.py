"""The relay: one collective a tick carries every boundary's hidden state at once, exact to the bit.

Every rank lays what it sends into its own place of one buffer of 64-bit words, zeros elsewhere; the sum is everybody's
data. Words, not floats, because x + 0 is exact for integers while -0.0 + 0.0 loses its sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mlx.core as mx

WORD = 8
PIECE_WORDS_PER_RANK = 32_768
"""MLX's ring cuts a rank's share above this many elements, or 512 KiB, into parallel packets that race."""


@dataclass(frozen=True)
class Parcel:
    """The shape and type of what one rank puts into the collective."""

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
        self._group = group
        self._rank = group.rank()
        self._before = (self._rank - 1) % group.size()

    def exchange(self, parcels: list[Parcel | None], mine: mx.array | None) -> mx.array | None:
        """Give `mine` to the rank after this one, take what the rank before gives; both may be nothing.

        `parcels` says for every rank what it gives, equally on all ranks. All ranks call this together. `mine` must be
        evaluated; the result is a part of an evaluated buffer.
        """
        words = [parcel.words if parcel else 0 for parcel in parcels]
        if not any(words):
            return None
        with mx.stream(mx.cpu):
            buffer = self._sum(self._filled(words, mine))
            parcel = parcels[self._before]
            return None if parcel is None else _unpacked(buffer, sum(words[: self._before]), parcel)

    def _filled(self, words: list[int], mine: mx.array | None) -> mx.array:
        before, after = sum(words[: self._rank]), sum(words[self._rank + 1 :])
        if mine is None:
            return mx.zeros((sum(words),), mx.uint64)
        return mx.concatenate([mx.zeros((before,), mx.uint64), _packed(mine), mx.zeros((after,), mx.uint64)])

    def _sum(self, buffer: mx.array) -> mx.array:
        step = PIECE_WORDS_PER_RANK * self._group.size()
        pieces = []
        for start in range(0, buffer.size, step):
            piece = mx.distributed.all_sum(buffer[start : start + step], group=self._group, stream=mx.cpu)
            mx.eval(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else mx.concatenate(pieces)


def _packed(values: mx.array) -> mx.array:
    """The bits of `values` as 64-bit words, filled up with zeros."""
    flat = values.reshape(-1)
    per_word = WORD // values.dtype.size
    missing = -flat.size % per_word
    if missing:
        flat = mx.concatenate([flat, mx.zeros((missing,), values.dtype)])
    return flat.view(mx.uint64)


def _unpacked(buffer: mx.array, start: int, parcel: Parcel) -> mx.array:
    flat = buffer[start : start + parcel.words].view(parcel.dtype)
    return flat[: math.prod(parcel.shape)].reshape(parcel.shape)
