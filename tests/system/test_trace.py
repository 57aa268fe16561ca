"""`--trace`: what two ranks did, on one clock."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.system.question import Question, ask_at_once
from tests.system.server import Server, start

QUESTIONS = [Question(f"{topic} " * 150, 12) for topic in ("sea", "bread", "light")]
SAME = 2000.0
"""Microseconds by which the clocks of processes on one machine may seem to differ."""

Event = dict[str, Any]


def test_a_trace_shows_both_ranks_at_work_at_the_same_time(own: Callable[[Server], Server], tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    server = own(start(2, "--trace", str(file)))
    server.wait_until("healthy")
    ask_at_once(server, QUESTIONS)
    server.process.send_signal(signal.SIGTERM)
    assert server.exit_code(30) == 0

    events = json.loads(file.read_text())
    names = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert names.keys() == {0, 1}
    assert names[1].startswith("rank 1 on ")
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["cat"] for event in spans} == {"compute", "relay", "wait"}
    ours, theirs = ([event for event in spans if event["pid"] == rank] for rank in (0, 1))
    for rank in (ours, theirs):
        assert_follow_each_other(sorted(rank, key=lambda event: event["ts"]))
    assert_passes_rank_0_first(computed(ours), computed(theirs))
    together = sum(overlap(one, other) for one in computed(ours) for other in computed(theirs))
    print(f"both ranks computed for {together / 1e6:.2f} s")
    assert together > 0.1e6


def assert_follow_each_other(spans: list[Event]) -> None:
    """As what one thread does must."""
    for earlier, later in itertools.pairwise(spans):
        assert earlier["dur"] >= 0
        assert earlier["ts"] + earlier["dur"] <= later["ts"] + 1, (earlier, later)


def assert_passes_rank_0_first(ours: list[Event], theirs: list[Event]) -> None:
    """What entered in a tick is computed by rank 0, then by rank 1."""
    ends = {event["args"]["tick"]: event["ts"] + event["dur"] for event in ours}
    assert {event["args"]["tick"] for event in theirs} <= ends.keys()
    for event in theirs:
        assert ends[event["args"]["tick"]] <= event["ts"] + SAME


def computed(events: list[Event]) -> list[Event]:
    return [event for event in events if event["cat"] == "compute"]


def overlap(one: Event, other: Event) -> float:
    """Microseconds that two have in common."""
    ends = min(one["ts"] + one["dur"], other["ts"] + other["dur"])
    return max(0.0, float(ends - max(one["ts"], other["ts"])))
