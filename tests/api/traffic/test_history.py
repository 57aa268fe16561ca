"""The plots' numbers, by a clock of the test's own."""

from __future__ import annotations

from array import array

import pytest

from mlxserve.api.traffic.history import DAY, MINUTES, History, Ring, Sample, Series

NOON = 1_700_000_000.0 - 1_700_000_000 % 300


def told(ring: Ring, *noted: tuple[float, Sample]) -> Series:
    for seconds, sample in noted:
        ring.note(NOON + seconds, sample, array("d"))
    return ring.series()


def test_rates_are_by_the_time_that_has_passed() -> None:
    series = told(
        Ring(2, 10),
        (0, Sample()),
        (2, Sample(generated_tokens=20, prompt_tokens=100)),
        (4, Sample(generated_tokens=30, prompt_tokens=100)),
    )
    assert series.generated_tokens_per_second == [0, 10, 5]
    assert series.prompt_tokens_per_second == [0, 50, 0]
    assert series.times == [NOON - 2, NOON, NOON + 2]


def test_shares_are_null_where_nothing_was_asked() -> None:
    series = told(
        Ring(2, 10),
        (0, Sample()),
        (2, Sample(prefix_asked=10, prefix_found=4, decode_steps=2, decode_rows=6, drafted=4, accepted=1)),
        (4, Sample(prefix_asked=10, prefix_found=4, decode_steps=2, decode_rows=6, drafted=4, accepted=1)),
    )
    assert series.prefix_hits == [None, 0.4, None]
    assert series.batch == [None, 3, None]
    assert series.acceptance == [None, 0.25, None]


def test_the_time_to_the_first_token_is_a_median() -> None:
    history = History()
    history.note(NOON, Sample())
    for seconds in (0.1, 0.2, 9.0):
        history.first_token(seconds)
    history.note(NOON + 2, Sample())
    history.note(NOON + 4, Sample())
    assert history.minutes().ttft == [None, 0.2, None]
    assert history.day().ttft[-1] == 0.2


def test_the_queue_is_a_mean() -> None:
    series = told(Ring(300, 5), (0, Sample()), (10, Sample(waiting=4, samples=1)), (20, Sample(waiting=6, samples=4)))
    assert series.queue[-1] == 1.5


def test_a_long_step_grows_until_it_is_over() -> None:
    ring = Ring(300, 5)
    assert told(ring, (2, Sample()), (12, Sample(generated_tokens=10))).generated_tokens_per_second == [1]
    assert told(ring, (22, Sample(generated_tokens=10))).generated_tokens_per_second == [0.5]
    assert told(ring, (302, Sample(generated_tokens=290))).generated_tokens_per_second == [0.5, 1]


def test_only_so_many_steps_are_kept() -> None:
    series = told(Ring(2, 3), *((2.0 * n, Sample(generated_tokens=2.0 * n * n)) for n in range(10)))
    assert series.times == [NOON + 12, NOON + 14, NOON + 16]
    assert series.generated_tokens_per_second == [13, 15, 17]


def test_while_the_machine_slept_there_was_nothing() -> None:
    series = told(Ring(2, 5), (0, Sample()), (2, Sample(generated_tokens=8)), (8, Sample(generated_tokens=20)))
    assert series.generated_tokens_per_second == [0, 4, 0, 0, 2]
    series = told(Ring(2, 5), (0, Sample()), (1000, Sample(generated_tokens=1000)))
    assert series.generated_tokens_per_second == [0, 0, 0, 0, 1]


def test_a_clock_that_is_set_back_begins_anew() -> None:
    ring = Ring(2, 5)
    told(ring, (100, Sample()), (102, Sample(generated_tokens=8)))
    series = told(ring, (0, Sample(generated_tokens=8)), (2, Sample(generated_tokens=10)))
    assert series.times == [NOON - 2, NOON]
    assert series.generated_tokens_per_second == [0, 1]


@pytest.mark.parametrize(("step", "count", "span"), [(*MINUTES, 300), (*DAY, 86_400)])
def test_they_reach_back_as_far_as_is_said(step: int, count: int, span: int) -> None:
    assert step * count == span
