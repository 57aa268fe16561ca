"""From counters to rates."""

from __future__ import annotations

import itertools

import mlx.core as mx
import pytest

from mlxserve.engine import meter as meter_module
from mlxserve.engine.messages import LinkFacts, RankFacts
from mlxserve.engine.meter import Meter, Rates
from mlxserve.pipeline.free_memory import total_bytes
from mlxserve.pipeline.link import Heartbeat

FACTS = RankFacts(0, "mini", 1, "cpu", 0, 3, 0, link=LinkFacts(1))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second passes whenever the time is asked for."""
    seconds = itertools.count()
    monkeypatch.setattr(meter_module.time, "monotonic", lambda: float(next(seconds)))


def test_rates_are_those_of_the_last_seconds() -> None:
    rates = Rates()
    assert rates.facts(FACTS, Heartbeat()).link == LinkFacts(1)
    rates.facts(FACTS, Heartbeat(0.5, 100, given_bytes=4000, exchange_seconds=0.001))
    told = rates.facts(FACTS, Heartbeat(1.0, 200, given_bytes=8000, exchange_seconds=0.002))
    assert (told.busy, told.tokens_per_second, told.link) == (0.5, 100, LinkFacts(1, 0.002, 4000))


def test_memory_is_told_by_kind() -> None:
    meter = Meter()
    held = mx.zeros((1 << 20,), mx.uint8)
    mx.eval(held)
    meter.loaded()
    meter.refresh(0, 0)
    told = Rates().facts(FACTS, meter.figures).memory
    assert told.weights >= held.nbytes
    assert 0 < told.free <= told.total == total_bytes()
