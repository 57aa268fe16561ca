"""How the shape of an array follows from the rows and the length of what passes through the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import mlx.core as mx

SMALL = (1, 1)
LARGE = (2, 3)
"""Rows and length of two passes, by which forms are told."""

Axis = int | Literal["rows", "length", "unknown"]


@dataclass(frozen=True, slots=True)  # without a `__dict__`: a leaf where trees are walked
class Form:
    """The axes of an array of `dtype`; those that follow neither rows nor length, as a cache's do, are unknown."""

    axes: tuple[Axis, ...]
    dtype: mx.Dtype

    def __str__(self) -> str:
        return f"[{', '.join(map(str, self.axes))}] {self.dtype}"

    @property
    def known(self) -> bool:
        """Whether its shape is known beforehand."""
        return "unknown" not in self.axes

    def shape(self, rows: int, length: int) -> tuple[int, ...]:
        """In a pass of `rows` and `length`; 1 for what is unknown."""
        sizes = {"rows": rows, "length": length, "unknown": 1}
        return tuple(axis if isinstance(axis, int) else sizes[axis] for axis in self.axes)

    def at_positions(self, values: mx.array, positions: list[int]) -> mx.array:
        """Of `values`, which have this form, the one position of each row: their length is 1."""
        if "length" not in self.axes:
            return values
        length = self.axes.index("length")
        if "rows" not in self.axes or len(set(positions)) == 1:
            return mx.take(values, mx.array(positions[:1]), axis=length)
        rows = self.axes.index("rows")
        order = [rows, length, *(axis for axis in range(len(self.axes)) if axis not in (rows, length))]
        chosen = values.transpose(order)[mx.arange(len(positions)), mx.array(positions)][:, None]
        return chosen.transpose([order.index(axis) for axis in range(len(order))])


def form_of(small: mx.array, large: mx.array) -> Form:
    """That of an array which is `small` in a pass of SMALL rows and length, and `large` in one of LARGE."""
    if small.ndim != large.ndim:
        return Form(("unknown",), large.dtype)
    return Form(tuple(map(_axis, small.shape, large.shape)), large.dtype)


def _axis(small: int, large: int) -> Axis:
    if small == large:
        return small
    if (small, large) == (SMALL[0], LARGE[0]):
        return "rows"
    return "length" if (small, large) == (SMALL[1], LARGE[1]) else "unknown"
