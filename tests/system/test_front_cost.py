from __future__ import annotations

from ..bench.front import measure

MOST_MICROSECONDS = 100


def test_an_event_of_32_streams_costs_the_node_little() -> None:
    report = measure(batches=(32,), events=6400, prompts=1)
    assert report.batches[0].cpu_microseconds < MOST_MICROSECONDS
