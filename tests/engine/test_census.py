"""What the engine tells of its work."""

from __future__ import annotations

import pytest

from mlxserve.engine.census import Census
from mlxserve.engine.messages import Figures, MemoryFacts, RankFacts, Sums
from mlxserve.engine.work import Work
from tests.engine.tiny import FOOTPRINT, Log, Priced, scheduler, submit

PROMPT = [(7 * column) % 500 for column in range(70)]
RANKS = [RankFacts(rank, "mini", 1, "cpu", 0, 3, 0, memory=MemoryFacts(weights=5)) for rank in (0, 1)]


def test_chunks_and_steps_are_counted() -> None:
    one = scheduler(chunk=16)
    one.add(submit(1, PROMPT))
    Log().run(one)
    assert (one.sums.chunks, one.sums.chunk_tokens) == (5, 70)
    assert 11 <= one.sums.decode_steps <= 12
    assert one.sums.decode_rows == one.sums.decode_steps
    assert (one.sums.drafted, one.sums.put_backs) == (0, 0)


def test_rows_of_a_batch_count_each() -> None:
    one = scheduler()
    for number in range(3):
        one.add(submit(number, PROMPT[number:]))
    Log().run(one)
    assert one.sums.decode_rows == 3 * one.sums.decode_steps
    assert one.sums.chunk_tokens == 70 + 69 + 68


def test_guesses_and_those_that_were_right_are_counted() -> None:
    one = scheduler(pace=Priced(1, 0.01), speculates=True)
    one.add(submit(1, [1, 2, 3, 4, 5, 6, 7, 8] * 8, tokens=200))
    Log().run(one)
    assert 0 < one.sums.accepted <= one.sums.drafted


def test_what_is_put_back_for_want_of_memory_is_counted() -> None:
    one = scheduler(kv_bytes=int(4 * 256 * FOOTPRINT.token_bytes * 1.1) + 1)
    for number in range(2):
        one.add(submit(number, PROMPT[number:], tokens=600))
    Log().run(one)
    assert one.sums.put_backs > 0


@pytest.mark.parametrize("ranks", [1, 2])
def test_caches_are_counted_on_each_rank_while_they_are_there(ranks: int) -> None:
    one = scheduler(prefix_bytes=10**6, pace=Priced(ranks, 0.1), kv_bytes=10**6)
    census = Census(one, one._ledger, one._decoding._prefixes)
    one.add(submit(1, PROMPT))
    log = Log()
    while 1 not in log.tokens:
        log.step(one)
    census.take(at_rest=False)
    running = [facts.memory for facts in census.completed(RANKS[:ranks])]
    assert [memory.kv for memory in running] == [FOOTPRINT.batch_bytes([len(PROMPT)])] * ranks
    assert [memory.weights for memory in running] == [5] * ranks
    assert 0 < census.kv_share < 1
    log.run(one)
    census.take(at_rest=True)
    after = [facts.memory for facts in census.completed(RANKS[:ranks])]
    assert [memory.kv for memory in after] == [0] * ranks
    assert all(memory.prefix >= len(PROMPT) * FOOTPRINT.token_bytes for memory in after)
    assert (census.sums.prefix_asked, census.sums.prefix_found) == (70, 0)
    one.add(submit(2, PROMPT))
    Log().run(one)
    census.take(at_rest=True)
    assert (census.sums.prefix_asked, census.sums.prefix_found) == (140, 69)


def test_the_work_of_engines_that_follow_each_other_is_one_sum() -> None:
    work = Work()
    work.begin()
    work.told(Figures([], Sums(decode_steps=5)))
    work.begin()
    work.told(Figures([], Sums(decode_steps=2, chunks=1), 0.5))
    assert work.sums == Sums(decode_steps=7, chunks=1)
    assert work.lately == Sums(decode_steps=2, chunks=1)
    assert (work.restarts, work.kv_share) == (1, 0.5)
