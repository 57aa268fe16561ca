"""What the engine has done and what its caches hold on each rank: counted about once a second."""

from __future__ import annotations

import time

import msgspec

from mlxserve.engine.memory import Ledger
from mlxserve.engine.messages import RankFacts, Sums
from mlxserve.engine.prefix import PrefixIndex
from mlxserve.engine.scheduler import Scheduler

_SECONDS = 0.5
"""Between two counts: those who tell them do so once a second."""


class Census:
    """Belongs to the thread that runs the scheduler; `sums`, `kv_share` and `completed` may be read by any."""

    def __init__(self, scheduler: Scheduler, ledger: Ledger, prefixes: PrefixIndex | None) -> None:
        self._scheduler = scheduler
        self._ledger = ledger
        self._prefixes = prefixes
        self._next = 0.0
        self._kv_bytes: list[int] = []
        self._prefix_bytes: list[int] = []
        self.sums = Sums()
        self.kv_share = 0.0
        """Of the memory for running sequences, what they have; of the rank that has the least left."""

    def take(self, at_rest: bool) -> None:
        """Count, unless that was done just now; `at_rest`: nothing follows, so that this count stays."""
        now = time.monotonic()
        if now < self._next and not at_rest:
            return
        self._next = now + _SECONDS
        lengths = self._scheduler.lengths
        self._kv_bytes = self._ledger.held(lengths)
        self.kv_share = self._ledger.share(self._kv_bytes)
        sums = msgspec.structs.replace(self._scheduler.sums)
        if self._prefixes is not None:
            self._prefix_bytes = list(self._prefixes.bytes)
            sums.prefix_asked = self._prefixes.figures.tokens_asked
            sums.prefix_found = self._prefixes.figures.tokens_found
        self.sums = sums  # whole: another thread may look at any time

    def completed(self, ranks: list[RankFacts]) -> list[RankFacts]:
        """`ranks` with what the caches of each hold."""
        kv, prefix = self._kv_bytes or [0] * len(ranks), self._prefix_bytes or [0] * len(ranks)
        return [
            msgspec.structs.replace(
                facts, memory=msgspec.structs.replace(facts.memory, kv=kv[number], prefix=prefix[number])
            )
            for number, facts in enumerate(ranks)
        ]
