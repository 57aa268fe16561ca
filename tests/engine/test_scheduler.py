from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxserve.engine import timing
from mlxserve.engine.messages import Sampling
from mlxserve.engine.pace import Kind, Pace
from tests.engine.tiny import FOOTPRINT, Log, Priced, alone, scheduler, submit, works

ROW_BYTES = int(256 * FOOTPRINT.token_bytes * 1.1) + 1
"""What the shortest row takes at most."""
PROMPTS = [[(7 * row + 3 * column) % 500 for column in range(length)] for row, length in enumerate([1, 5, 30, 9, 70])]
LONG = [(11 * column) % 500 for column in range(240)]
ABOUT_AS_LONG = [[(5 * row + 3 * column) % 500 for column in range(length)] for row, length in enumerate([20, 24, 30])]


def test_sequences_that_come_together_get_the_tokens_they_get_alone() -> None:
    together = scheduler()
    for number, prompt in enumerate(PROMPTS):
        together.add(submit(number, prompt))
    tokens = Log().run(together).tokens
    assert tokens == {number: alone(submit(number, prompt)) for number, prompt in enumerate(PROMPTS)}


@pytest.mark.parametrize("slowly", [True, False])
def test_tokens_are_told_before_what_takes_long_to_start(slowly: bool) -> None:
    engine, told = scheduler(starts_slowly=slowly), list[int]()
    engine.add(submit(1, PROMPTS[2]))
    while engine.busy:
        told += [new.token for new in engine.step().tokens]
        if 1 < len(told) < 11:
            assert bool(engine._drawing._due) == slowly, "what the next token comes from is to be started"
        engine.go_on()
        assert not engine._drawing._due
    assert told == alone(submit(1, PROMPTS[2]))


def test_where_passes_take_long_to_start_each_is_timed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now, noted = 0.0, list[float]()

    class Noting(Pace):
        def note(self, tokens: int, seconds: float, kind: Kind = "alone") -> None:
            noted.append(seconds)

    engine = scheduler(pace=Noting(1))
    compute = engine._drawing.compute

    def take_a_second() -> None:
        nonlocal now
        now += bool(engine._drawing._due)
        compute()

    monkeypatch.setattr(engine._drawing, "compute", take_a_second)
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now))
    engine.add(submit(1, PROMPTS[2], tokens=6))
    Log().run(engine)
    assert noted == [1.0] * 6, "the prompt, then a pass for each other token"


def test_where_a_tick_is_over_when_it_ends_its_tokens_are_told_at_once() -> None:
    engine, told = scheduler(runs_on=False), list[int]()
    engine.add(submit(1, PROMPTS[2]))
    while engine.busy:
        told += [new.token for new in engine.step().tokens]
        assert not engine._drawing.unread
        engine.go_on()
    assert told == alone(submit(1, PROMPTS[2]))


def test_a_sequence_that_joins_a_running_batch_gets_the_tokens_it_gets_alone() -> None:
    joined, log = scheduler(), Log()
    joined.add(submit(1, PROMPTS[1], tokens=30))
    while len(log.tokens.get(1, [])) < 5:
        log.step(joined)
    joined.add(submit(2, PROMPTS[2]))
    log.run(joined)
    assert log.tokens == {1: alone(submit(1, PROMPTS[1], tokens=30)), 2: alone(submit(2, PROMPTS[2]))}


def test_room_that_an_answer_leaves_is_for_the_next_one_and_given_back_if_none_comes() -> None:
    busy, log, rows = scheduler(), Log(), list[int]()

    def step_until(number: int) -> None:
        while number not in log.finish:
            log.step(busy)
            rows.append(sum(map(len, busy.lengths)))

    busy.add(submit(1, PROMPTS[1], tokens=4))
    busy.add(submit(2, PROMPTS[3], tokens=200))
    step_until(1)
    log.step(busy)
    assert [batch.count(0) for batch in busy.lengths] == [1]
    rows.clear()
    busy.add(submit(3, PROMPTS[2], tokens=4))
    step_until(3)
    assert max(rows) == 3, "while the third prompt was read beside the two rows"
    assert rows[-1] == 2
    rows.clear()
    step_until(2)
    assert rows[:30] == [2] * 30
    assert rows[40:-1] == [1] * len(rows[40:-1])
    assert log.tokens[2] == alone(submit(2, PROMPTS[3], tokens=200))


def test_a_running_sequence_goes_on_while_a_long_prompt_is_read() -> None:
    shared, log = scheduler(chunk=8), Log()
    shared.add(submit(1, PROMPTS[1], tokens=40))
    while len(log.tokens.get(1, [])) < 3:
        log.step(shared)
    shared.add(submit(2, PROMPTS[4]))
    while 2 not in log.tokens:
        log.step(shared)
    assert len(log.tokens[1]) >= len(PROMPTS[4]) // 8


def test_a_prompt_read_in_pieces_gives_the_same_tokens_and_tells_its_progress() -> None:
    pieces = scheduler(chunk=16)
    pieces.add(submit(1, PROMPTS[4]))
    log = Log().run(pieces)
    assert log.tokens[1] == alone(submit(1, PROMPTS[4]))
    assert [(reading.done, reading.total) for reading in log.reading] == [(n, 70) for n in (14, 28, 42, 56, 70)]


@pytest.mark.parametrize("ranks", [1, 2])
def test_prompts_of_different_lengths_that_are_read_together_in_several_chunks_get_the_tokens_they_get_alone(
    ranks: int,
) -> None:
    together = scheduler(pace=Priced(ranks, 0.4))
    log = Log()
    together.add(submit(0, PROMPTS[1], tokens=40))
    while 0 not in log.tokens:
        log.step(together)
    for number, prompt in enumerate(ABOUT_AS_LONG, start=1):
        together.add(submit(number, prompt))
    log.run(together)
    chunks = [work.tokens.shape for work in works(together) if work.tokens.shape[1] > 1]
    assert sum(rows == 3 for rows, _ in chunks) > 2, "the answer that is being written leaves time for short ones only"
    for number, prompt in enumerate(ABOUT_AS_LONG, start=1):
        assert log.tokens[number] == alone(submit(number, prompt))


def test_prompts_of_a_burst_are_read_together_though_they_take_two_chunks() -> None:
    burst = scheduler(pace=Priced(1, token_cost=1.0))  # a chunk of a second: 96 tokens
    for number in range(3):
        burst.add(submit(number, [(number + 5 * column) % 500 for column in range(60)], tokens=3))
    Log().run(burst)
    assert [work.tokens.shape for work in works(burst)] == [(3, 30), (3, 30), (3, 1), (3, 1)]


def test_the_first_token_is_told_in_the_step_that_reads_the_prompt() -> None:
    """Not a step later, as those that follow are."""
    one, log = scheduler(), Log()
    one.add(submit(1, PROMPTS[2], tokens=4))
    log.step(one)
    assert len(log.tokens[1]) == 1
    log.step(one)
    assert len(log.tokens[1]) == 1
    log.step(one)
    assert len(log.tokens[1]) == 2


def test_a_stop_token_ends_a_sequence_and_is_the_last_it_gets() -> None:
    expected = alone(submit(1, PROMPTS[3]))
    stop = expected[4]
    stopped = scheduler()
    stopped.add(submit(1, PROMPTS[3], stop=stop))
    log = Log().run(stopped)
    assert log.tokens[1] == expected[: expected.index(stop) + 1]
    assert log.finish[1] == "stop"


@pytest.mark.parametrize("count", [1, 2, 7])
def test_a_sequence_ends_at_its_bound(count: int) -> None:
    bounded = scheduler()
    bounded.add(submit(1, PROMPTS[1], tokens=count))
    log = Log().run(bounded)
    assert (len(log.tokens[1]), log.finish[1]) == (count, "length")


@pytest.mark.parametrize("steps", [0, 1, 2, 6])
def test_a_cancelled_sequence_gets_no_more_tokens_and_leaves_the_others_as_they_are(steps: int) -> None:
    some, log = scheduler(), Log()
    for number in (1, 2, 3):
        some.add(submit(number, PROMPTS[number], tokens=20))
    for _ in range(steps):
        log.step(some)
    some.cancel(2)
    before = len(log.tokens.get(2, []))
    log.run(some)
    assert len(log.tokens.get(2, [])) == before < 20
    assert 2 not in log.finish
    assert log.tokens[1] == alone(submit(1, PROMPTS[1], tokens=20))
    assert log.tokens[3] == alone(submit(3, PROMPTS[3], tokens=20))


@pytest.mark.parametrize("ranks", [2, 3])
def test_over_several_ranks_sequences_get_the_tokens_they_get_on_one(ranks: int) -> None:
    split = scheduler(pace=Priced(ranks, 0.1), chunk=16)
    for number, prompt in enumerate(PROMPTS):
        split.add(submit(number, prompt))
    tokens = Log().run(split).tokens
    assert tokens == {number: alone(submit(number, prompt)) for number, prompt in enumerate(PROMPTS)}


def decode_passes(rows: int, token_cost: float, ranks: int = 2) -> list[int]:
    """Rows of each pass while `rows` sequences are decoded over ranks, where a token costs this share of a pass."""
    split = scheduler(pace=Priced(ranks, token_cost))
    for number in range(rows):
        split.add(submit(number, PROMPTS[1], tokens=30))
    Log().run(split)
    return [work.tokens.shape[0] for work in works(split) if work.tokens.shape[1] == 1]


@pytest.mark.parametrize("ranks", [1, 2])
def test_prompts_are_read_beside_a_long_answer_however_small_their_share_of_the_time(ranks: int) -> None:
    shared, log = scheduler(pace=Priced(ranks, 0.4), prefill_share=0.2), Log()
    shared.add(submit(1, PROMPTS[1], tokens=500))
    while len(log.tokens.get(1, [])) < 50:
        log.step(shared)
    shared.add(submit(2, PROMPTS[4], tokens=1))
    shared.add(submit(3, PROMPTS[2], tokens=1))
    log.run(shared)
    assert list(log.finish) == [2, 3, 1]


def test_sequences_run_in_turn_where_a_pass_of_half_as_many_is_quicker() -> None:
    passes = decode_passes(8, token_cost=1.0)
    assert passes.count(4) > 50 > passes.count(8)


def test_sequences_run_together_where_reading_the_weights_is_what_a_pass_costs() -> None:
    assert set(decode_passes(8, token_cost=0.0)) == {8}


def test_what_begins_like_something_read_before_is_read_from_there_on() -> None:
    warm = scheduler(prefix_bytes=1_000_000)
    log = Log()
    for number, prompt in enumerate([PROMPTS[4], [*PROMPTS[4], 7, 8], [*PROMPTS[4][:40], 9], PROMPTS[4]]):
        warm.add(submit(number, prompt))
        log.run(warm)
    assert [reading.cached for reading in log.reading if reading.done == reading.total] == [0, 70, 40, 69]
    assert log.tokens[1] == alone(submit(1, [*PROMPTS[4], 7, 8]))
    assert log.tokens[2] == alone(submit(2, [*PROMPTS[4][:40], 9]))
    assert log.tokens[3] == log.tokens[0]


def test_the_next_turn_of_a_conversation_reads_only_what_is_new() -> None:
    warm, log = scheduler(prefix_bytes=1_000_000), Log()
    warm.add(submit(1, PROMPTS[4], tokens=20))
    log.run(warm)
    warm.add(submit(2, [*PROMPTS[4], *log.tokens[1], 5, 6, 7]))
    log.run(warm)
    assert log.reading[-1].cached >= 70 + 19
    assert log.tokens[2] == alone(submit(2, [*PROMPTS[4], *log.tokens[1], 5, 6, 7]))


def test_of_prompts_that_come_together_what_they_have_in_common_is_read_once() -> None:
    warm = scheduler(prefix_bytes=1_000_000)
    prompts = {number: [*PROMPTS[4], number, number] for number in range(5)}
    for number, prompt in prompts.items():
        warm.add(submit(number, prompt))
    log = Log().run(warm)
    assert sum(work.tokens.size for work in works(warm) if work.tokens.shape[1] > 1) == 72 + 4 * 2
    assert log.tokens == {number: alone(submit(number, prompt)) for number, prompt in prompts.items()}


def test_when_memory_runs_short_the_youngest_is_put_back_and_loses_nothing() -> None:
    short = scheduler(kv_bytes=4 * ROW_BYTES)
    requests = {number: submit(number, PROMPTS[4], tokens=480, sampling=Sampling(number)) for number in range(2)}
    for sequence in requests.values():
        short.add(sequence)
    log = Log().run(short)
    reads = [reading for reading in log.reading if reading.id == 1]
    assert len(reads) == 1, "that it is read a second time is nobody's business"
    assert sum(work.tokens.size for work in works(short) if work.tokens.shape[1] > 1) > 2 * 70
    for number in requests:
        assert log.tokens[number] == alone(submit(number, PROMPTS[4], tokens=480, sampling=Sampling(number)))


def test_of_those_put_back_at_once_the_oldest_goes_on_first() -> None:
    short = scheduler(kv_bytes=8 * ROW_BYTES)  # four rows of 512 tokens, or two of 768
    for number in range(4):
        short.add(submit(number, LONG, tokens=290, sampling=Sampling(number)))
    log = Log().run(short)
    assert list(log.finish) == [0, 1, 2, 3]


def test_prompts_wait_for_none_that_is_too_long_to_be_stored() -> None:
    tight = scheduler(prefix_bytes=60 * FOOTPRINT.token_bytes)
    for number in range(3):
        tight.add(submit(number, [*PROMPTS[4], number]))
    Log().run(tight)
    assert [work.tokens.shape for work in works(tight) if work.tokens.shape[1] > 1] == [(3, 71)]


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_repeats_itself_is_guessed_and_comes_in_fewer_passes(ranks: int) -> None:
    plain, quick = Log(), Log()
    prompt = [*PROMPTS[2], *PROMPTS[2]]
    for log, speculates in ((plain, False), (quick, True)):
        guessing = scheduler(pace=Priced(ranks, 0.01), speculates=speculates)
        guessing.add(submit(1, prompt, tokens=200))  # greedy tokens of a random model soon go round in a circle
        log.run(guessing)
        passes = len(works(guessing))
    assert quick.tokens == plain.tokens
    assert passes < 120


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_answer_that_ended_or_was_cancelled_is_guessed_when_it_is_asked_for_again(ranks: int) -> None:
    plain = scheduler(pace=Priced(ranks, 0.01))
    plain.add(submit(1, PROMPTS[2], tokens=40))
    tokens = Log().run(plain).tokens[1]
    guessing = scheduler(pace=Priced(ranks, 0.01), speculates=True)
    guessing.add(submit(1, PROMPTS[2], tokens=40))
    first = Log()
    while len(first.tokens.get(1, [])) < 30:
        first.step(guessing)
    guessing.cancel(1)
    before = len(works(guessing))
    guessing.add(submit(2, PROMPTS[2], tokens=40))
    assert Log().run(guessing).tokens[2] == tokens
    once_more = len(works(guessing))
    guessing.add(submit(3, PROMPTS[2], tokens=40))
    assert Log().run(guessing).tokens[3] == tokens
    assert once_more - before < 30
    assert len(works(guessing)) - once_more < 15


def test_models_that_cannot_be_batched_answer_one_after_another() -> None:
    single = scheduler(batchable=False)
    for number, prompt in enumerate(PROMPTS):
        single.add(submit(number, prompt))
    tokens = Log().run(single).tokens
    assert tokens == {number: alone(submit(number, prompt)) for number, prompt in enumerate(PROMPTS)}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_whatever_comes_and_goes_in_whatever_order_every_sequence_gets_its_own_tokens(data: st.DataObject) -> None:
    ranks = data.draw(st.sampled_from([1, 2, 3]))
    pace = Priced(ranks, data.draw(st.sampled_from([0.0, 0.5, 1.0])))
    busy = scheduler(
        chunk=data.draw(st.sampled_from([4, 16, 64])),
        rows=data.draw(st.integers(1, 6)),
        pace=pace,
        kv_bytes=data.draw(st.sampled_from([sys.maxsize, 4 * ROW_BYTES, 8 * ROW_BYTES])),
        prefix_bytes=data.draw(st.sampled_from([0, 5_000, 1_000_000])),
        speculates=data.draw(st.booleans()),
        prefill_share=data.draw(st.sampled_from([0.01, 0.5, 0.95])),
    )
    log = Log()
    added, cancelled = {}, set()
    for number in range(data.draw(st.integers(1, 8))):
        sampling = Sampling(seed=number, temperature=data.draw(st.sampled_from([0.0, 1.0])), top_p=0.9)
        added[number] = (
            data.draw(st.sampled_from([*PROMPTS, *ABOUT_AS_LONG])),
            data.draw(st.integers(1, 15)),
            sampling,
        )
        busy.add(submit(number, *added[number]))
        for _ in range(data.draw(st.integers(0, 6))):
            log.step(busy)
        if data.draw(st.booleans()):
            leaving = data.draw(st.sampled_from(sorted(added)))
            busy.cancel(leaving)
            cancelled.add(leaving)
    log.run(busy)
    for number, request in added.items():
        got = log.tokens.get(number, [])
        expected = alone(submit(number, *request))
        assert got == expected[: len(got)]
        assert number in cancelled or got == expected
