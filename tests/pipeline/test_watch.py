"""What a rank ends for, watched from a thread of its own."""

from __future__ import annotations

import threading
import time

from mlxserve.engine.meter import Meter
from mlxserve.pipeline.link import Watch


def _timed(seconds: float) -> Meter:
    """A meter that has seen ticks of `seconds` each, as it believes."""
    own = Meter()
    for _ in range(50):
        with own.working():
            assert own.working_since is not None
            own.working_since -= seconds
    return own


def test_before_ticks_have_been_timed_one_may_take_long() -> None:
    assert Meter().longest_tick == 120


def test_what_a_tick_may_take_follows_the_longest_so_far() -> None:
    assert _timed(0.05).longest_tick == 20
    assert 80 <= _timed(4.0).longest_tick < 81


def test_a_tick_that_does_not_end_ends_the_rank() -> None:
    own = _timed(0.05)
    own.working_since = time.monotonic() - 21
    lost, reasons = threading.Event(), list[str]()
    Watch([], own, 5.0).start(lambda reason: (reasons.append(reason), lost.set()))  # type: ignore[func-returns-value]
    assert lost.wait(5)
    assert reasons == ["a tick has not ended within 20 s: a rank or a cable between ranks is stuck"]


def test_an_idle_rank_is_not_stuck() -> None:
    lost = threading.Event()
    Watch([], _timed(0.05), 5.0).start(lambda _: lost.set())
    assert not lost.wait(1.5)
