"""What engines have done, one after the other, as far as they have told."""

from __future__ import annotations

import time

from mlxserve.engine.messages import Figures, Sums

_LATEST_SECONDS = 2.5
"""After which the last word of an engine, which speaks once a second while it works, tells nothing of the present."""


class Work:
    """The sums of all engines of this node together. What one did in the second before its loss is not in them."""

    def __init__(self) -> None:
        self._before = Sums()
        self._engines = 0
        self._lately = Sums()
        self._told_at = 0.0
        self.sums = Sums()
        self.kv_share = 0.0
        """Of the memory for running sequences, what they have, 0 to 1."""

    @property
    def restarts(self) -> int:
        """How many engines have followed the first."""
        return max(0, self._engines - 1)

    @property
    def lately(self) -> Sums:
        """What was done in about the last second."""
        return self._lately if time.monotonic() - self._told_at < _LATEST_SECONDS else Sums()

    def begin(self) -> None:
        """A new engine counts from 0."""
        self._engines += 1
        self._before = self.sums
        self.kv_share = 0.0

    def told(self, figures: Figures) -> None:
        """Take down what the engine says of itself."""
        sums = self._before + figures.sums
        self._lately, self.sums = sums - self.sums, sums
        self._told_at = time.monotonic()
        self.kv_share = figures.kv_share
