"""A row cache that keeps keys and values in 8 or 4 bits, as `mx.quantize` packs them.

mlx-lm's attention computes on them as they are when a cache has `bits` and `group_size`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from mlxserve.pipeline.row_cache import RowCache

_GROUP_SIZES = (64, 32)
"""Of MLX's, from the smallest in memory."""


def group_size_for(widths: list[int]) -> int:
    """Elements that share a scale, for heads of these `widths`; 0: they cannot be quantized."""
    return next((size for size in _GROUP_SIZES if all(width and width % size == 0 for width in widths)), 0)


class QuantizedRowCache(RowCache):
    """See `RowCache`; its arrays are packed keys, their scales and biases, then the same of the values."""

    def __init__(self, rows: int, bits: int, group_size: int) -> None:
        super().__init__(rows)
        self.bits = bits
        self.group_size = group_size

    @property
    def keys(self) -> Any:
        """See `RowCache.keys`."""
        return tuple(self._arrays[:3]) or None

    @keys.setter
    def keys(self, keys: Any) -> None:
        self._arrays[:3] = keys

    @property
    def values(self) -> Any:
        """See `RowCache.keys`."""
        return tuple(self._arrays[3:]) or None

    @values.setter
    def values(self, values: Any) -> None:
        self._arrays[3:] = values

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Any, Any]:
        """See `RowCache.update_and_fetch`; returns them packed."""
        self._write([*self._packed(keys), *self._packed(values)])
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[Any, Any]:
        """See `RowCache.keys_and_values`; packed."""
        used = self._used()
        return tuple(used[:3]), tuple(used[3:])

    def _packed(self, numbers: mx.array) -> Sequence[mx.array]:
        return mx.quantize(numbers, group_size=self.group_size, bits=self.bits)
