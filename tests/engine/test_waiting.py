from __future__ import annotations

from collections.abc import Sequence

from mlxserve.engine.memory import Bound, Ledger
from mlxserve.engine.prefix import PrefixIndex
from mlxserve.engine.waiting import MOST_LOOKED_AT, Waiting
from tests.engine.tiny import FOOTPRINT, submit

ROOM = Bound(FOOTPRINT, 10**9)
PROMPT = [(7 * column) % 500 for column in range(100)]


class Counted(PrefixIndex):
    """Counts how often it is asked."""

    asked = 0

    def found(self, tokens: Sequence[int]) -> int:
        self.asked += 1
        return super().found(tokens)


def test_of_very_many_that_wait_for_one_not_all_are_looked_at() -> None:
    index = Counted([ROOM], cuttable=True)
    waiting = Waiting(Ledger([ROOM]), index)
    for number in range(1000):
        waiting.add(submit(number, [*PROMPT, number % 500]))
    taken = waiting.take(8, [], [], 2048)
    assert [sequence.id for sequence in taken.sequences] == [0]
    assert index.asked <= 2 * MOST_LOOKED_AT
