"""What MLX has freed and keeps for reuse."""

from __future__ import annotations

import time

import mlx.core as mx

_SECONDS = 10.0


class FreedBuffers:
    """Gives them back to the machine now and then, so that what one busy minute took is not kept for days.

    Belongs to the thread that runs MLX. mlx_lm.generate does the same every 256 tokens.
    """

    def __init__(self) -> None:
        self._next = time.monotonic() + _SECONDS

    def give_back(self) -> None:
        """To be called after each step; it mostly does nothing."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + _SECONDS
            mx.clear_cache()
