"""What is noted of passes on one rank, whose tokens are looked at a step later."""

from __future__ import annotations

import mlx.core as mx
import pytest

from mlxserve.engine import timing
from mlxserve.engine.pace import Pace
from mlxserve.engine.timing import Timing
from mlxserve.pipeline.pipeline import Work
from mlxserve.pipeline.plan import Logits


class Clock:
    """Stands still until told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(timing.time, "perf_counter", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def _work(rows: int, length: int, logits: Logits) -> Work:
    return Work(1, mx.zeros((rows, length), mx.int32), [], logits)


def _step(timing: Timing, clock: Clock, work: Work | None, until: float, idle: bool = False) -> None:
    timing.begin()
    clock.now = until
    timing.end(work, wholly=True, idle=idle, runs_on=work is not None and work.tokens.shape[1] == 1)


def test_decode_steps_that_wait_for_the_one_before(clock: Clock) -> None:
    pace, decode = Pace(1), _work(4, 1, "last")
    timing = Timing(pace)
    for until, work in ((100.001, decode), (100.05, decode), (100.10, decode), (100.15, None)):
        _step(timing, clock, work, until, idle=work is None)
    assert pace.knows(4)
    assert pace.tick(4) == pytest.approx(0.05)


def test_a_chunk_between_decode_steps_waits_for_the_step_before_it(clock: Clock) -> None:
    pace, decode = Pace(1), _work(4, 1, "last")
    timing = Timing(pace)
    at = 100.001
    _step(timing, clock, decode, at)
    for _ in range(4):
        at += 0.05
        _step(timing, clock, decode, at)
    at += 0.05 + 0.3
    _step(timing, clock, _work(1, 100, "none"), at)
    assert pace.tick(100) == pytest.approx(0.3, rel=0.01)
    assert pace.tick(4) == pytest.approx(0.05, rel=0.03)


def test_a_decode_step_after_a_prompt_is_waited_for_by_the_step_after_it(clock: Clock) -> None:
    pace = Pace(1)
    timing = Timing(pace)
    _step(timing, clock, _work(1, 40, "last"), 100.120)
    assert pace.tick(40) == pytest.approx(0.12)
    _step(timing, clock, _work(1, 1, "last"), 100.122)
    _step(timing, clock, None, 100.160, idle=True)
    assert pace.tick(1) == pytest.approx(0.04)


def test_idleness_counts_for_nothing(clock: Clock) -> None:
    pace = Pace(1)
    timing = Timing(pace)
    for start in (100.0, 200.0, 300.0):
        clock.now = start
        _step(timing, clock, _work(1, 1, "last"), start + 0.001)
        _step(timing, clock, None, start + 0.04, idle=True)
    assert pace.tick(1) == pytest.approx(0.04)


def test_a_step_of_unknown_length_is_not_guessed_at(clock: Clock) -> None:
    pace = Pace(1)
    timing = Timing(pace)
    _step(timing, clock, _work(2, 1, "last"), 100.001)
    _step(timing, clock, _work(1, 100, "none"), 100.400)
    assert pace.tick(100) == 0.0


def test_over_two_ranks_the_last_ones_tick_alone_is_not_noted(clock: Clock) -> None:
    """Its logits are dealt with in the same time."""
    pace = Pace(2)
    timing = Timing(pace)
    ticks: list[tuple[int, float]] = [(100, 0.1), (80, 0.11), (0, 0.5)]
    for tokens, seconds in ticks:
        timing.begin()
        clock.now += seconds
        timing.end(_work(1, tokens, "last") if tokens else None, wholly=False, idle=False, runs_on=False)
    assert pace.tick(100) == pytest.approx(0.1)
    assert pace.tick(100, "together") == pytest.approx(0.11)
    assert pace.tick(80) == pytest.approx(0.1)


def test_a_chunk_that_seems_to_take_no_time_teaches_nothing(clock: Clock) -> None:
    pace, decode = Pace(1), _work(4, 1, "last")
    timing = Timing(pace)
    at = 100.001
    for _ in range(5):
        _step(timing, clock, decode, at)
        at += 0.05
    _step(timing, clock, _work(1, 100, "none"), at - 0.04)  # the decode step before it was over sooner than usual
    for _ in range(4):
        at += 0.35
        _step(timing, clock, _work(1, 100, "none"), at)
    assert pace.tick(100) == pytest.approx(0.35, rel=0.3)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_pass_with_guesses_says_nothing_of_a_chunk_as_large(clock: Clock, ranks: int) -> None:
    pace = Pace(ranks)
    pace.note(12, 0.1)
    timing = Timing(pace)
    for at in (101.0, 102.0):
        clock.now = at
        _step(timing, clock, _work(4, 3, "all"), at + 0.3, idle=True)
    assert pace.verifying(12) == pytest.approx(0.3)
    assert pace.tick(12) == pytest.approx(0.1)
