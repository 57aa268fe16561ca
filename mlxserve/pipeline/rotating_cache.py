"""mlx-lm's batched cache of a sliding window, mended."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import BatchRotatingKVCache


class RotatingRows(BatchRotatingKVCache):  # type: ignore[misc]
    """Makes the mask for several tokens right after single ones have gone round, and can be made as small as it counts.

    mlx-lm (0.32.2) makes the mask from the place where the next single token would go, and only then puts the tokens in
    order: rows of different lengths then see one place too few or too many. And it keeps a chunk of a prompt whole,
    beside the window before it, until the next token comes.
    """

    keys: Any
    values: Any
    _idx: int
    """Where the next token goes."""

    def make_mask(self, N: int, window_size: int | None = None, return_array: bool = False) -> Any:
        """See mlx-lm's."""
        if N > 1:
            self._temporal_order()
        return super().make_mask(N, window_size, return_array)

    def shed(self) -> None:
        """After a pass: forget, and free, what no later token can see."""
        if self.keys is None or (surplus := self._idx - self.max_size) <= 0:
            return
        self.keys, self.values = (mx.contiguous(array[:, :, surplus : self._idx]) for array in (self.keys, self.values))
        self._idx = self.max_size
        self.left_padding -= surplus
