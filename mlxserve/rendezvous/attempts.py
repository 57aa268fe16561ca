"""Which sets of ranks did not come to serve as a group, and when each may be tried again."""

from __future__ import annotations

import math
from collections.abc import Callable

Ranks = frozenset[int]

_FIRST_PAUSE = 30.0
_LONGEST_PAUSE = 600.0


class Attempts:
    """Keeps a group that serves from being given up again and again for a larger one that never comes to serve."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures: dict[Ranks, int] = {}
        self._blocked: dict[Ranks, float] = {}
        self._served: Ranks = frozenset()

    def served(self, ranks: Ranks) -> None:
        """They have come to serve."""
        self._served = ranks
        self._failures.pop(ranks, None)
        self._blocked.pop(ranks, None)

    def failed(self, ranks: Ranks, final: bool = False) -> None:
        """They have not; `final`: and never will, because the model does not fit, for instance.

        The first time may be chance: a rank was lost while the group formed.
        """
        count = self._failures[ranks] = self._failures.get(ranks, 0) + 1
        if final:
            self._blocked[ranks] = math.inf
        elif count > 1:
            self._blocked[ranks] = self._clock() + min(_FIRST_PAUSE * 2 ** (count - 2), _LONGEST_PAUSE)

    def may(self, ranks: Ranks) -> bool:
        """Whether they may be tried now."""
        return self._clock() >= self._blocked.get(ranks, -math.inf)

    def best_of(self, present: Ranks, least: int) -> Ranks:
        """Which of those `present` are to form a group of `least` ranks or more; empty: none can."""
        choices = [present, self._served & present, frozenset([0])]
        enough = [ranks for ranks in choices if len(ranks) >= least]
        if now := next((ranks for ranks in enough if self.may(ranks)), None):
            return now
        # where nothing smaller has proved to work, what failed by chance is tried on and on
        return next((ranks for ranks in enough if self._blocked[ranks] < math.inf), frozenset())
