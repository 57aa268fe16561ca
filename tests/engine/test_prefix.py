from __future__ import annotations

import random

import pytest

from mlxserve.engine.memory import Bound
from mlxserve.engine.prefix import FEWEST_NEW, PrefixIndex
from mlxserve.pipeline.footprint import Footprint
from mlxserve.pipeline.plan import Drop, Span, Split, Store
from tests.engine.rank_store import Ranks, RankStore

PLAIN = Footprint(token_bytes=10)
MIXED = Footprint(token_bytes=10, windows=[(4, 50)], sequence_bytes=300)


def words(seed: int, count: int) -> list[int]:
    """Tokens that begin as no others do."""
    return [seed, *random.Random(seed).choices(range(1000), k=count - 1)]


def ranks(tokens: int = 10_000, cuttable: bool = True) -> Ranks:
    footprint = PLAIN if cuttable else MIXED
    return Ranks(Bound(footprint, tokens * 10), cuttable=cuttable)


def test_nothing_is_found_in_an_empty_index() -> None:
    assert ranks().find(words(1, 50)) == 0


def test_a_prompt_seen_before_is_found_but_for_its_last_token() -> None:
    stored = ranks()
    stored.insert(words(1, 50))
    assert stored.find(words(1, 50)) == 49


def test_a_prompt_that_goes_on_from_a_stored_one_finds_all_of_it() -> None:
    stored = ranks()
    stored.insert(words(1, 50))
    assert stored.find([*words(1, 50), *words(2, 30)]) == 50


def test_a_prompt_that_diverges_finds_what_it_shares() -> None:
    stored = ranks()
    stored.insert([*words(1, 50), *words(2, 50)])
    assert stored.find([*words(1, 50), *words(3, 50)]) == 50


def test_a_shared_beginning_is_stored_once() -> None:
    stored = ranks()
    stored.insert([*words(1, 50), *words(2, 50)])
    assert stored.insert([*words(1, 50), *words(3, 50)]) == [Split, Store]
    assert stored.index.bytes == [150 * 10]
    assert stored.find([*words(1, 50), *words(2, 50), 0]) == 100
    assert stored.find([*words(1, 50), *words(3, 50), 0]) == 100


def test_what_is_stored_already_is_not_stored_again() -> None:
    stored = ranks()
    stored.insert(words(1, 50))
    assert stored.insert(words(1, 50)) == []
    assert stored.insert(words(1, 30)) == []


def test_a_few_new_tokens_are_not_worth_storing() -> None:
    stored = ranks()
    stored.insert(words(1, 50))
    assert stored.insert([*words(1, 50), *words(2, FEWEST_NEW - 1)]) == []
    assert stored.insert([*words(1, 50), *words(2, FEWEST_NEW)]) == [Store]


def test_the_least_recently_used_makes_room() -> None:
    stored = ranks(tokens=150)
    stored.insert(words(1, 50))
    stored.insert(words(2, 50))
    stored.insert(words(3, 50))
    stored.find(words(1, 50))
    assert stored.insert(words(4, 50)) == [Drop, Store]
    assert [stored.find(words(seed, 50)) for seed in (1, 2, 3, 4)] == [49, 0, 49, 49]


def test_what_others_go_on_from_is_evicted_after_them() -> None:
    stored = ranks(tokens=150)
    shared = words(1, 50)
    stored.insert([*shared, *words(2, 50)])
    stored.insert([*shared, *words(3, 50)])
    stored.insert(words(4, 50))
    assert [stored.find([*shared, *words(seed, 50)]) for seed in (2, 3)] == [50, 99]
    stored.insert(words(5, 100))
    assert stored.find([*shared, *words(3, 50)]) == 50


def test_what_is_being_extended_is_not_evicted() -> None:
    stored = ranks(tokens=100)
    stored.insert(words(1, 60))
    assert stored.insert([*words(1, 60), *words(2, 60)]) == []
    assert stored.find(words(1, 60)) == 59


def test_a_long_tail_that_nobody_uses_makes_room_for_another_of_the_same_beginning() -> None:
    stored = ranks(tokens=120)
    stored.insert([*words(1, 40), *words(2, 60)])
    assert stored.insert([*words(1, 40), *words(3, 60)]) == [Split, Drop, Store]
    assert stored.find([*words(1, 40), *words(3, 60)]) == 99


def test_what_would_not_fit_at_all_evicts_nothing() -> None:
    stored = ranks(tokens=100)
    stored.insert(words(1, 60))
    assert stored.insert(words(2, 101)) == []
    assert stored.find(words(1, 60)) == 59


def test_the_bound_of_the_smallest_rank_holds() -> None:
    stored = Ranks(Bound(PLAIN, 10_000), Bound(Footprint(token_bytes=20), 1000))
    assert stored.insert(words(1, 40)) == [Store]
    assert stored.insert(words(2, 40)) == [Drop, Store]
    assert stored.insert(words(3, 51)) == []


def test_a_bound_of_nothing_stores_nothing() -> None:
    assert ranks(tokens=0).insert(words(1, 50)) == []


def test_what_is_pinned_stays() -> None:
    stored = ranks(tokens=100)
    stored.insert(words(1, 60))
    match = stored.index.match(words(1, 60))
    stored.index.pin(match)
    assert stored.insert(words(2, 60)) == []
    stored.index.unpin(match)
    assert stored.insert(words(2, 60)) == [Drop, Store]


def test_a_pin_outlives_a_split() -> None:
    stored = ranks(tokens=100)
    stored.insert(words(1, 60))
    match = stored.index.match(words(1, 60))
    stored.index.pin(match)
    assert stored.insert([*words(1, 60)[:30], *words(2, 40)]) == [Split, Store]
    assert stored.insert(words(3, 60)) == []
    stored.index.unpin(match)
    assert stored.insert(words(3, 60)) == [Drop, Drop, Store]


def test_what_is_found_is_counted_and_looking_is_not() -> None:
    stored = ranks()
    stored.insert(words(1, 50))
    assert stored.index.found([*words(1, 50), 7]) == 50
    stored.find([*words(1, 50), 7])
    stored.find(words(2, 20))
    figures = stored.index.figures
    assert (figures.asked, figures.hits, figures.tokens_asked, figures.tokens_found) == (2, 1, 71, 50)


def test_caches_that_cannot_be_cut_go_on_only_where_they_were_stored() -> None:
    stored = ranks(cuttable=False)
    stored.insert(words(1, 50))
    assert stored.find(words(1, 50)) == 0
    assert stored.find([*words(1, 30), *words(2, 30)]) == 0
    assert stored.find([*words(1, 50), 7]) == 50


def test_the_third_that_begins_alike_profits_where_caches_cannot_be_cut() -> None:
    stored = ranks(cuttable=False)
    shared = words(1, 50)
    stored.insert([*shared, *words(2, 30)])
    assert stored.index.wanted_border([*shared, *words(3, 30)]) == 50
    assert stored.insert(shared) == [Split, Drop, Store]
    assert stored.find([*shared, *words(4, 30)]) == 50
    assert stored.find([*shared, *words(2, 30), 7]) == 80
    assert stored.index.wanted_border([*shared, *words(4, 30)]) is None


def test_a_prompt_asked_again_wants_a_border_before_its_last_token() -> None:
    stored = ranks(cuttable=False)
    stored.insert(words(1, 50))
    assert stored.index.wanted_border(words(1, 50)) == 49


def test_no_border_is_wanted_where_caches_can_be_cut() -> None:
    stored = ranks()
    stored.insert(words(1, 50))
    assert stored.index.wanted_border(words(1, 50)) is None


def test_a_passage_left_over_by_a_split_becomes_a_snapshot_when_a_sequence_ends_there() -> None:
    stored = ranks(cuttable=False)
    shared = words(1, 50)
    stored.insert([*shared, *words(2, 30)])
    assert stored.insert([*shared, *words(3, 30)]) == [Split, Store]
    assert stored.insert(shared) == [Drop, Store]
    assert [stored.find([*shared, *words(seed, 30), 7]) for seed in (2, 3, 4)] == [80, 80, 50]


def test_a_passage_that_leads_nowhere_any_more_is_dropped_with_what_it_led_to() -> None:
    snapshot = 300 + 50 * 4
    stored = Ranks(Bound(MIXED, 150 * 10 + 2 * snapshot), cuttable=False)
    stored.insert([*words(1, 50), *words(2, 50)])
    stored.insert([*words(1, 50), *words(3, 50)])
    assert stored.insert(words(4, 150)) == [Drop, Drop, Drop, Store]
    assert len(stored.index) == 1


def test_a_growing_conversation_gives_up_its_older_snapshots_for_newer_ones() -> None:
    stored = Ranks(Bound(Footprint(token_bytes=1, sequence_bytes=1000), 3300), cuttable=False)
    conversation = words(1, 20)
    for turn in range(2, 12):
        stored.insert(conversation)
        assert stored.find([*conversation, 7]) == len(conversation)
        conversation = [*conversation, *words(turn, 20)]


def test_a_snapshot_that_is_pinned_is_not_given_up() -> None:
    stored = Ranks(Bound(Footprint(token_bytes=1, sequence_bytes=1000), 1100), cuttable=False)
    stored.insert(words(1, 20))
    match = stored.index.match([*words(1, 20), 7])
    stored.index.pin(match)
    assert stored.insert([*words(1, 20), *words(2, 20)]) == []
    stored.index.unpin(match)
    assert stored.insert([*words(1, 20), *words(2, 20)]) == [Drop, Store]


def test_a_snapshot_that_others_go_on_from_is_not_given_up() -> None:
    stored = Ranks(Bound(Footprint(token_bytes=1, sequence_bytes=1000), 2100), cuttable=False)
    other = [*words(1, 20), *words(2, 20)]
    stored.insert(words(1, 20))
    stored.insert(other)
    stored.index.pin(stored.index.match([*other, 7]))
    assert stored.insert([*words(1, 20), *words(3, 20)]) == []
    assert stored.find([*other, 7]) == 40


@pytest.mark.parametrize(("cuttable", "takes_one_out"), [(True, 300), (False, 150)])
def test_after_a_restart_the_same_is_found_and_goes_in_the_same_order(cuttable: bool, takes_one_out: int) -> None:
    before = ranks(tokens=400, cuttable=cuttable)
    for seed in (1, 2, 3):
        before.insert(words(seed, 50))
    before.find([*words(1, 50), 7])
    after = ranks(tokens=400, cuttable=cuttable)
    after.stores = before.stores
    assert after.index.restore(before.index.state(), [counts(after.stores[0])]) == []
    assert after.index.bytes == before.index.bytes
    after.insert(words(4, takes_one_out))
    assert [after.find([*words(seed, 50), 7]) for seed in (1, 2, 3)] == [50, 0, 50]


def test_after_a_restart_what_a_rank_has_lost_is_dropped_with_what_follows_it() -> None:
    before = Ranks(Bound(PLAIN, 10_000), Bound(PLAIN, 10_000))
    before.insert(words(1, 50))
    before.insert([*words(1, 50), *words(2, 50)])
    before.insert(words(3, 50))
    first = before.index.match(words(1, 51)).spans[0].key
    here, there = counts(before.stores[0]), counts(before.stores[1])
    del there[first]
    after = PrefixIndex([Bound(PLAIN, 10_000)] * 2, cuttable=True)
    dropped = after.restore(before.index.state(), [here, there])
    assert len(dropped) == 2
    assert Drop(first) in dropped
    assert after.match(words(1, 50)).length == 0
    assert after.match(words(3, 50)).length == 49


def test_after_a_restart_a_passage_to_what_a_rank_has_lost_is_dropped() -> None:
    before = ranks(cuttable=False)
    before.insert([*words(1, 50), *words(2, 30)])
    before.insert([*words(1, 50), *words(3, 30)])
    passage = before.index.match([*words(1, 50), *words(2, 30), 7]).spans[0].key
    after = PrefixIndex([Bound(MIXED, 10_000)], cuttable=False)
    assert after.restore(before.index.state(), [{passage: 50}]) == [Drop(passage)]
    assert len(after) == 0


def test_after_a_restart_a_segment_that_a_split_has_shortened_meanwhile_is_dropped() -> None:
    before = ranks()
    before.insert(words(1, 50))
    state = before.index.state()
    before.insert([*words(1, 30), *words(2, 30)])
    after = PrefixIndex([Bound(PLAIN, 10_000)], cuttable=True)
    assert len(after.restore(state, [counts(before.stores[0])])) == 3
    assert len(after) == 0


@pytest.mark.parametrize("damage", [b"", b"nothing", b"\0" * 100])
def test_a_damaged_index_is_an_empty_one(damage: bytes) -> None:
    after = PrefixIndex([Bound(PLAIN, 10_000)], cuttable=True)
    assert after.restore(damage, [{"a": 3}]) == [Drop("a")]
    assert after.match(words(1, 50)).spans == list[Span]()


def test_a_bit_that_fell_over_and_half_a_state_are_noticed() -> None:
    before = ranks()
    before.insert(words(1, 50))
    state = before.index.state()
    fallen = bytes([*state[:-3], state[-3] ^ 1, *state[-2:]])
    for damaged in (fallen, *(state[:length] for length in (1, 15, 16, 17, len(state) // 2, len(state) - 1))):
        after = PrefixIndex([Bound(PLAIN, 10_000)], cuttable=True)
        assert len(after.restore(damaged, [counts(before.stores[0])])) == 1
        assert len(after) == 0


def test_after_a_restart_with_a_smaller_bound_the_least_recently_used_are_dropped() -> None:
    before = ranks()
    for seed in (1, 2, 3):
        before.insert(words(seed, 50))
    after = PrefixIndex([Bound(PLAIN, 1000)], cuttable=True)
    assert len(after.restore(before.index.state(), [counts(before.stores[0])])) == 1
    assert [after.match(words(seed, 50)).length for seed in (1, 2, 3)] == [0, 49, 49]


def counts(store: RankStore) -> dict[str, int]:
    return {key: len(tokens) for key, tokens in store.segments.items()}
