"""A KV cache for several sequences of different lengths: each is a row that begins at position 0.

mlx-lm's `BatchKVCache` lets the rows end together, so reading prompts of different lengths, and dropping rows, moves
what is stored. Here nothing moves: what lies beyond a row's length is masked, and overwritten later. Rows that are
dropped can leave room behind, which those that come are written into: so neither copies all that the others hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import mlx.core as mx
from mlx_lm.models.base import create_causal_mask

from mlxserve.pipeline.rotary import unchanging

STEP = 256
"""Tokens by which the capacity grows, so that a decode step hardly ever copies what is stored."""

Range = list[mx.array]
"""The tokens of one row, or of a part of it: arrays [1, heads, tokens, width]."""
Lifted = dict[int, Range]
"""Rows on their way, by where they go."""


class RowCache:
    """Keys and values [rows, heads, capacity, width]; in a model it takes the place of mlx-lm's `KVCache`.

    Its arrays can have more rows than count: the `spare` ones are behind those that do.
    """

    def __init__(self, rows: int) -> None:
        self._lengths = [0] * rows
        self._spare = 0
        self._filling: list[int] = []
        self._arrays: list[mx.array] = []

    def begin(self, rows: Sequence[Sequence[Range]]) -> None:
        """Let each row begin with what was extracted before, ranges one after another."""
        self._lengths = [sum(tokens[0].shape[2] for tokens in ranges if tokens) for ranges in rows]
        like = next((tokens for ranges in rows for tokens in ranges if tokens), [])
        capacity = capacity_for(self.size())
        self._spare = 0
        self._arrays = [
            mx.concatenate([_joined([tokens[index] for tokens in ranges], array, capacity) for ranges in rows])
            for index, array in enumerate(like)
        ]

    @property
    def offset(self) -> mx.array:
        """Where each row's next token goes: [rows]."""
        return _positions(tuple(self._lengths))

    @property
    def keys(self) -> Any:
        """All of the buffer; None before the first token."""
        return self._arrays[0] if self._arrays else None

    @keys.setter
    def keys(self, keys: Any) -> None:
        self._arrays[0] = keys

    @property
    def values(self) -> Any:
        """See `keys`."""
        return self._arrays[1] if self._arrays else None

    @values.setter
    def values(self, values: Any) -> None:
        self._arrays[1] = values

    @property
    def state(self) -> list[mx.array]:
        """All arrays, to be evaluated."""
        return self._arrays

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return self._lengths

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._arrays)

    def size(self) -> int:
        """Tokens of the longest row."""
        return max(self._lengths)

    def empty(self) -> bool:
        """Whether no token has come yet."""
        return not self._arrays

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Any, Any]:
        """Put `keys` and `values` [rows, heads, length, width] behind each row; returns those of all tokens."""
        self._write([keys, values])
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[Any, Any]:
        """Those of all tokens, as far as the longest row reaches."""
        keys, values = self._used()
        return keys, values

    def make_mask(self, N: int, return_array: bool = False, window_size: int | None = None) -> mx.array | str | None:
        """Which of all tokens each of the next `N` sees; see mlx-lm's `create_attention_mask`.

        Filling on the right needs no mask: it is behind all that counts.
        """
        if min(self._lengths) < self.size():
            return _mask_of_rows(tuple(self._lengths), N, window_size)
        if window_size is None and N == 1:
            return None
        if window_size is None and not return_array:
            return "causal"
        mask: mx.array = create_causal_mask(N, self.size(), window_size=window_size)
        return mask

    def prepare(self, *, lengths: list[int], right_padding: list[int]) -> None:
        """Of the tokens that come next only `lengths` count; the `right_padding` behind them is filling."""
        self._filling = right_padding

    def finalize(self) -> None:
        """The tokens have come: forget the filling."""
        if self._filling:
            self.trim(self._filling)
        self._filling = []

    def trim(self, counts: list[int]) -> None:
        """Forget the last `counts[row]` tokens of each row."""
        self._lengths = [max(0, length - count) for length, count in zip(self._lengths, counts, strict=True)]

    def extend(self, other: RowCache) -> None:
        """Take in the rows of `other`, after the own ones: where these leave enough room, by writing into it."""
        first, last = len(self._lengths), len(self._lengths) + len(other._lengths)
        capacity = capacity_for(max(self.size(), other.size()))
        spare = max(0, self._spare - len(other._lengths))
        if self._has_room(last + spare, capacity) and other._arrays:
            for array, more in zip(self._arrays, other._used(), strict=True):
                array[first:last, :, : other.size()] = more
        elif self._arrays or other._arrays:
            own, theirs = self._sized(capacity, other), other._sized(capacity, self)
            self._arrays = [_with_rows(mx.concatenate(list(pair)), spare) for pair in zip(own, theirs, strict=True)]
        self._lengths, self._spare = self._lengths + other._lengths, spare

    def lifted(self, rows: list[int], spare: int) -> Lifted | None:
        """Copies, not evaluated, of those of `rows` that are to move when all others are dropped and `spare` stay.

        None where more has to be copied anyway. Until they are evaluated nothing can be written where they come from,
        as MLX would copy everything instead.
        """
        longest = max(self._lengths[row] for row in rows)
        moving = {to: row for to, row in enumerate(rows) if to != row}
        if not self._has_room(len(rows) + spare, capacity_for(longest)) or any(
            row < len(rows) for row in moving.values()
        ):
            return None
        return {to: self.extract(row, 0, self._lengths[row]) for to, row in moving.items()}

    def filter(self, rows: list[int], spare: int = 0, lifted: Lifted | None = None) -> None:
        """Drop all rows but these, which come in this order, and leave room for `spare` more.

        In place with what `lifted` returned for it; without it all that stays is copied.
        """
        self._lengths, self._spare = [self._lengths[row] for row in rows], spare
        if lifted is None:
            chosen = mx.array(rows + rows[:1] * spare)
            capacity = capacity_for(self.size())
            self._arrays = [array[:, :, :capacity][chosen] for array in self._arrays]
            return
        for to, tokens in lifted.items():
            for array, copied in zip(self._arrays, tokens, strict=True):
                array[to : to + 1, :, : copied.shape[2]] = copied

    def extract(self, row: int, start: int, stop: int) -> Range:
        """A copy of the tokens `start` to `stop` of a row, not evaluated; nothing where no token ever came."""
        assert not self._arrays or stop <= self._lengths[row]
        return [mx.contiguous(array[row : row + 1, :, start:stop]) for array in self._arrays]

    def _has_room(self, rows: int, capacity: int) -> bool:
        """Whether the arrays are exactly as large."""
        return bool(self._arrays) and (self._arrays[0].shape[0], self._arrays[0].shape[2]) == (rows, capacity)

    def _used(self) -> list[mx.array]:
        rows, longest = len(self._lengths), self.size()
        if not self._arrays or self._has_room(rows, longest):
            return self._arrays
        return [array[:rows, :, :longest] for array in self._arrays]

    def _write(self, new: list[mx.array]) -> None:
        """Put `new`, arrays [rows, heads, length, width], behind each row."""
        length = new[0].shape[2]
        starts, self._lengths = self._lengths, [start + length for start in self._lengths]
        self._grow(new)
        first = starts[0]
        if min(starts) == max(starts):
            for array, more in zip(self._arrays, new, strict=True):
                array[: len(starts), :, first : first + length] = more
            return
        slots = _slots((*starts, *[0] * self._spare), length)
        padded = [_with_rows(more, self._spare) for more in new]
        self._arrays = [
            mx.put_along_axis(array, mx.broadcast_to(slots, more.shape), more, axis=2)
            for array, more in zip(self._arrays, padded, strict=True)
        ]

    def _grow(self, new: list[mx.array]) -> None:
        """Make room for the longest row."""
        present = self._arrays[0].shape[2] if self._arrays else 0
        if self.size() <= present and self._arrays:
            return
        missing = _stepped(self.size()) - present
        rows = len(self._lengths) + self._spare
        room = [mx.zeros((rows, more.shape[1], missing, more.shape[3]), more.dtype) for more in new]
        if self._arrays:
            room = [mx.concatenate(list(pair), axis=2) for pair in zip(self._arrays, room, strict=True)]
        self._arrays = room

    def _sized(self, capacity: int, like: RowCache) -> list[mx.array]:
        """The own arrays with `capacity`; zeros like those of `like` where no token has come yet."""
        if not self._arrays:
            return [
                mx.zeros((len(self._lengths), array.shape[1], capacity, array.shape[3]), array.dtype)
                for array in like._arrays
            ]
        rows = len(self._lengths)
        return [_with_capacity(array[:rows] if self._spare else array, capacity) for array in self._arrays]


def _joined(ranges: list[mx.array], like: mx.array, capacity: int) -> mx.array:
    """`ranges` one after another, and zeros up to `capacity`."""
    missing = capacity - sum(array.shape[2] for array in ranges)
    return mx.concatenate([*ranges, mx.zeros((1, like.shape[1], missing, like.shape[3]), like.dtype)], axis=2)


def _with_rows(array: mx.array, more: int) -> mx.array:
    return mx.pad(array, [(0, more), (0, 0), (0, 0), (0, 0)]) if more else array


def _with_capacity(array: mx.array, capacity: int) -> mx.array:
    missing = capacity - array.shape[2]
    return mx.pad(array, [(0, 0), (0, 0), (0, missing), (0, 0)]) if missing > 0 else array[:, :, :capacity]


def _stepped(tokens: int) -> int:
    return -(-tokens // STEP) * STEP


def capacity_for(tokens: int) -> int:
    """The capacity for rows of which the longest has `tokens`: at least one more fits."""
    return _stepped(tokens + 1)


@lru_cache(maxsize=8)
def _positions(lengths: tuple[int, ...]) -> mx.array:
    """One array for all layers, which ask for the same."""
    return unchanging(mx.array(lengths, mx.int32))


@lru_cache(maxsize=4)
def _slots(starts: tuple[int, ...], length: int) -> mx.array:
    """Where the next `length` tokens of each row go: [rows, 1, length, 1]."""
    return _positions(starts)[:, None, None, None] + mx.arange(length)[:, None]


def _mask_of_rows(lengths: tuple[int, ...], count: int, window_size: int | None) -> mx.array:
    """[rows, 1, count, tokens], true where a token is seen."""
    own = _slots(lengths, count)
    seen = mx.arange(max(lengths) + count)
    mask = own >= seen
    return mask if window_size is None else mask & (own < seen + window_size)
