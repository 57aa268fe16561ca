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
    taken = waiting.take(8, [], [], 2048, 2048)
    assert [sequence.id for sequence in taken.sequences] == [0]
    assert index.asked <= 2 * MOST_LOOKED_AT


def test_a_client_with_many_prompts_does_not_keep_another_waiting() -> None:
    waiting = Waiting(Ledger([ROOM]), None)
    for number in range(1000):
        waiting.add(submit(number, [number % 500], client="many"))
    assert [sequence.id for sequence in waiting.take(2, [], [], 2048, 2048).sequences] == [0, 1]
    waiting.add(submit(1000, [7], client="one"))
    assert [sequence.id for sequence in waiting.take(2, [], [], 2048, 2048).sequences] == [1000, 2]


def test_who_was_under_way_goes_before_all_whoever_it_is() -> None:
    waiting = Waiting(Ledger([ROOM]), None)
    for number, client in enumerate("abc"):
        waiting.add(submit(number, [number], client=client))
    waiting.put_back(submit(3, [3], client="a"))
    assert [sequence.id for sequence in waiting.take(4, [], [], 2048, 2048).sequences] == [3, 0, 1, 2]


def test_among_those_that_wait_for_a_prompt_being_read_others_are_served() -> None:
    waiting = Waiting(Ledger([ROOM]), PrefixIndex([ROOM], cuttable=True))
    for number in range(3):
        waiting.add(submit(number, [*PROMPT, number], client="many"))
    waiting.add(submit(3, [9], client="one"))
    first = waiting.take(1, [], [], 2048, 2048).sequences
    assert [sequence.id for sequence in first] == [0]
    assert [sequence.id for sequence in waiting.take(2, [], first, 2048, 2048).sequences] == [3]


def test_short_prompts_are_joined_as_far_as_one_pass_goes_and_longer_ones_as_ever() -> None:
    waiting = Waiting(Ledger([ROOM]), None)
    for number in range(8):
        waiting.add(submit(number, list(range(60))))
    assert len(waiting.take(8, [], [], 2048, 130).sequences) == 2
    assert len(waiting.take(8, [], [], 2048, 59).sequences) == 6
