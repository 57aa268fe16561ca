"""The order in which sequences wait: fair between clients, first come first served for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from mlxserve.engine.sequence import Sequence
from mlxserve.engine.turns import Turns
from tests.engine.tiny import submit

CLIENTS = st.sampled_from("abcd")


def asked(number: int, client: str) -> Sequence:
    return submit(number, [1], client=client)


def queue(clients: Iterable[str]) -> Turns:
    """One sequence of each of `clients`, numbered in this order."""
    turns = Turns()
    for number, client in enumerate(clients):
        turns.add(asked(number, client))
    return turns


def drain(turns: Turns) -> list[Sequence]:
    """All that wait, each taken as the first."""
    taken = []
    while turns:
        taken.append(next(iter(turns)))
        turns.take(taken[-1])
    return taken


def names(sequences: Iterable[Sequence]) -> str:
    return "".join(sequence.client for sequence in sequences)


def test_clients_take_turns() -> None:
    assert names(drain(queue("aaaabbc"))) == "abcabaa"


def test_who_comes_late_goes_before_the_second_of_each_other() -> None:
    turns = queue("aaaabbb")
    turns.take(next(iter(turns)))
    turns.add(asked(9, "c"))
    assert names(drain(turns)) == "bcababa"


def test_who_was_silent_for_long_has_saved_nothing() -> None:
    turns = queue("a" * 20 + "b")
    for _ in range(10):
        turns.take(next(iter(turns)))
    for number in range(30, 40):
        turns.add(asked(number, "b"))
    assert names(list(turns)[:6]) in ("ababab", "bababa")


def test_who_is_put_back_goes_before_all_the_last_one_first() -> None:
    turns = queue("ab")
    for number in (8, 7):
        turns.put_back(asked(number, "c"))
    assert [sequence.id for sequence in drain(turns)] == [7, 8, 0, 1]


def test_whoever_gives_up_again_and_again_does_not_lose_its_place() -> None:
    turns = queue("aaa")
    for number in range(10, 20):
        typed = asked(number, "b")
        turns.add(typed)
        turns.remove(typed)
    turns.add(asked(20, "b"))
    assert names(drain(turns)) == "abaa"


def test_what_does_not_wait_may_be_removed_and_taken_in_vain() -> None:
    turns = queue("ab")
    turns.remove(asked(0, "a"))
    turns.take(asked(1, "b"))
    assert names(drain(turns)) == "ab"


@given(st.lists(CLIENTS, max_size=30))
def test_each_client_is_served_in_the_order_it_asked(clients: list[str]) -> None:
    order = [sequence.id for sequence in drain(queue(clients))]
    assert sorted(order) == list(range(len(clients)))
    for client in set(clients):
        own = [number for number in order if clients[number] == client]
        assert own == sorted(own)


@given(st.lists(st.tuples(CLIENTS, st.booleans()), max_size=60))
def test_while_one_waits_no_other_is_served_more_than_twice(events: list[tuple[str, bool]]) -> None:
    """Each event is a new sequence or, of those that wait, the first is served."""
    turns = Turns()
    meanwhile: dict[str, Counter[str]] = {}
    for number, (client, comes) in enumerate(events):
        if comes:
            turns.add(asked(number, client))
            meanwhile.setdefault(client, Counter())
        elif turns:
            first = next(iter(turns))
            turns.take(first)
            for other in meanwhile:
                meanwhile[other][first.client] += 1
            assert all(max(seen.values()) <= 2 for client, seen in meanwhile.items() if client != first.client)
            waiting = {sequence.client for sequence in turns}
            meanwhile[first.client] = Counter()
            meanwhile = {client: seen for client, seen in meanwhile.items() if client in waiting}


@given(st.lists(CLIENTS, max_size=12), st.lists(CLIENTS, max_size=20), st.data())
def test_those_that_give_up_change_nothing_for_the_rest(
    before: list[str], clients: list[str], data: st.DataObject
) -> None:
    """The order is as if they had never come."""
    left = {number for number in range(len(clients)) if data.draw(st.booleans(), "leaves")}
    some, none = queue(before), queue(before)
    for _ in range(data.draw(st.integers(0, len(before)), "served")):
        for turns in (some, none):
            turns.take(next(iter(turns)))
    sequences = [asked(100 + number, client) for number, client in enumerate(clients)]
    for number, sequence in enumerate(sequences):
        some.add(sequence)
        if number not in left:
            none.add(sequence)
    for number in data.draw(st.permutations(sorted(left)), "in this order"):
        some.remove(sequences[number])
    assert [sequence.id for sequence in drain(some)] == [sequence.id for sequence in drain(none)]


def test_nothing_is_kept_of_clients_that_have_nothing_here() -> None:
    turns = Turns()
    for number in range(1000):
        turns.add(asked(number, f"client {number}"))
        if number >= 10:
            turns.take(next(iter(turns)))
            turns.add(asked(2000 + number, "a"))
            turns.remove(next(sequence for sequence in turns if sequence.client == "a"))
    drain(turns)
    assert not turns._last
