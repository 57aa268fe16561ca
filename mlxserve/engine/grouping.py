"""Whether what is being decoded runs as one batch or as several in turn.

One batch leaves all ranks but one idle at each tick, several fill them. But each batch reads the weights anew, so that
pays only where compute or long caches, not weights, are what a step waits for: measured, not assumed.
"""

from __future__ import annotations

from mlxserve.engine.pace import Pace

_WORTH_SPLITTING = 1.06
"""Gain from which one batch becomes several; below 1 they become one again."""
_FEWEST_ROWS = 2
_STEPS_BETWEEN_TRIALS = 400


class Grouping:
    """Decides into how many groups rows are divided."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._split = False
        self._steps = 0

    def groups(self, rows: int) -> int:
        """How many groups `rows` should run in now; asked once a step."""
        ranks = self._pace.ranks
        if ranks == 1 or rows < _FEWEST_ROWS:
            self._split = False
            return 1
        parts = min(rows, ranks)
        share = -(-rows // parts)
        self._steps += 1
        if self._steps % _STEPS_BETWEEN_TRIALS == 0:
            # What is not being done is not being measured: try it again now and then.
            if self._split:
                self._pace.forget(rows)
            else:
                self._pace.forget(share, "together")
        if not self._pace.knows(rows):
            self._split = False
        elif not self._pace.knows(share, "together"):
            self._split = True
        else:
            gain = self._pace.tick(rows) / max(1e-9, self._pace.tick(share, "together"))
            self._split = gain > (1.0 if self._split else _WORTH_SPLITTING)
        return parts if self._split else 1
