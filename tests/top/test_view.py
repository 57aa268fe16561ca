"""What `mlxserve top` shows of what a server tells."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from mlxserve.top.state import Traffic
from mlxserve.top.view import lost, view

GB = 10**9
RANK = {
    "host": "mini-1.local",
    "device": "Apple M4 Pro",
    "memory": {"weights": 6 * GB, "kv": 2 * GB, "prefix": 0, "cache": GB, "free": 10 * GB, "total": 24 * GB},
    "busy": 0.5,
    "tokens_per_second": 21.3,
    "link": {"to": 1, "latency": 0.0004, "bytes_per_second": 2.5e6},
}
TRAFFIC = {
    "now": 1000.0,
    "status": {"status": "healthy", "reason": "", "since": 700.0},
    "minutes": {"generated_tokens_per_second": [0.0, 10.0, 20.0], "ttft": [None, 0.2, 0.4, 0.3]},
    "totals": {"requests": 7, "prefix_queries": 200, "prefix_hits": 50, "draft_tokens": 0, "accepted_tokens": 0},
    "running": 3,
    "waiting": 1,
    "ranks": [{**RANK, "rank": 0, "layers": [0, 13]}, {**RANK, "rank": 1, "layers": [14, 27]}],
}


def shown(width: int = 100, **changes: object) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(view(msgspec.convert({**TRAFFIC, **changes}, Traffic), "http://mini-1:8100", width))
    return [line.rstrip() for line in console.export_text().splitlines()]


@pytest.mark.parametrize("width", [80, 200])
def test_each_rank_has_a_line_however_wide_the_terminal_is(width: int) -> None:
    lines = shown(width)
    assert lines[0] == "● healthy for 5 min  http://mini-1:8100"
    (first,), (second,) = ([line for line in lines if line.startswith(number)] for number in "01")
    for word in ("0-13", "9.0/24 GB", "██░░░ 50%", "21.3", "0.4 ms 2.5 MB/s"):
        assert word in first
    assert "14-27" in second


def test_figures_are_told_below() -> None:
    text = "\n".join(shown())
    assert "3 running, 1 waiting, 7 done" in text
    assert "20.0" in text
    assert "▁▅█" in text
    assert "300 ms" in text
    assert "25%" in text


def test_a_rank_that_loads_tells_how_far_it_is() -> None:
    loading = {"rank": 1, "host": "mini-2", "progress": "downloading 1.2 of 3.4 GB"}
    lines = shown(status={"status": "loading", "reason": "rank 1 loads", "since": 990.0}, ranks=[loading], minutes={})
    assert lines[0] == "● loading for 10 s: rank 1 loads  http://mini-1:8100"
    assert any("downloading 1.2 of 3.4 GB" in line for line in lines)


def test_a_server_that_is_gone_is_told() -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(lost("http://mini-1:8100", "it cannot be reached"))
    assert console.export_text().startswith("● unreachable: it cannot be reached")
