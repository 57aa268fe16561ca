"""Spans of several processes become one timeline, whatever their clocks say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlxserve.engine import trace_file
from mlxserve.engine.timeline import Clock, Timeline
from mlxserve.engine.trace_file import TraceFile
from mlxserve.errors import UserError
from mlxserve.pipeline.trace import Span

AHEAD = 1000.0


@pytest.fixture
def timeline() -> Timeline:
    """Of two ranks, the second of which has a clock that is 1,000 s ahead."""
    timeline = Timeline(2)
    timeline.clocks[0].told(0, 0, 0)
    timeline.clocks[1].told(4.0, AHEAD + 4.5, 5.0)
    return timeline


def test_the_quickest_answer_tells_the_time() -> None:
    clock = Clock()
    assert not clock.known
    clock.told(0.0, 100.9, 1.0)
    clock.told(2.0, 102.05, 2.1)
    clock.told(4.0, 104.3, 4.4)
    assert clock.known
    assert clock.ahead == pytest.approx(100.0)


def test_what_is_done_at_the_same_time_is_so_in_the_trace(timeline: Timeline) -> None:
    timeline.add(0, [Span("compute", 7, 10.0, 0.5, 4, 1)])
    timeline.add(1, [Span("compute", 6, AHEAD + 10.1, 0.5, 1, 128)])
    first, second = timeline.events()
    assert (first["pid"], first["name"], first["args"]) == (0, "decode 4 × 1", {"tick": 7})  # noqa: RUF001
    assert (second["pid"], second["name"]) == (1, "prompt 1 × 128")  # noqa: RUF001
    assert second["ts"] - first["ts"] == pytest.approx(0.1e6, abs=1)
    assert first["dur"] == pytest.approx(0.5e6)


def test_who_comes_first_to_an_exchange_waits_for_the_last(timeline: Timeline) -> None:
    timeline.add(0, [Span("exchange", 7, 10.0, 0.5)])
    assert timeline.events() == []
    timeline.add(1, [Span("exchange", 7, AHEAD + 10.4, 0.1)])
    told = [(event["pid"], event["cat"], round(event["dur"] / 1e6, 3)) for event in timeline.events()]
    assert told == [(0, "wait", 0.4), (0, "relay", 0.1), (1, "relay", 0.1)]
    assert timeline.events() == []


def test_an_exchange_that_a_rank_never_tells_of_is_not_waited_for(timeline: Timeline) -> None:
    timeline.add(0, [Span("exchange", tick, float(tick), 0.5) for tick in range(100)])
    assert 0 < len(timeline.events()) < 100
    assert timeline.events(all_of_them=True)


def test_the_file_is_whole_after_each_time_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text("of an earlier server")
    trace_file.begin(str(path))
    assert json.loads(path.read_text()) == []
    for number in range(3):
        TraceFile(str(path)).append([{"name": f"{number}"}, {"name": "again"}])
        TraceFile(str(path)).append([])
        assert [event["name"] for event in json.loads(path.read_text())][::2] == [str(n) for n in range(number + 1)]


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--trace .* cannot be written: No such file"):
        trace_file.begin(str(tmp_path / "nowhere" / "trace.json"))
