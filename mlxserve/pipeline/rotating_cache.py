"""mlx-lm's batched cache of a sliding window, mended."""

from __future__ import annotations

from typing import Any

from mlx_lm.models.cache import BatchRotatingKVCache


class RotatingRows(BatchRotatingKVCache):  # type: ignore[misc]
    """Makes the mask for several tokens right after single ones have gone round.

    mlx-lm (0.32.2) makes it from the place where the next single token would go, and only then puts the tokens in
    order: rows of different lengths then see one place too few or too many.
    """

    def make_mask(self, N: int, window_size: int | None = None, return_array: bool = False) -> Any:
        """See mlx-lm's."""
        if N > 1:
            self._temporal_order()
        return super().make_mask(N, window_size, return_array)
