"""What `make bench` says of its goals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ..bench.goals import Goal, paired
from ..bench.report import write
from ..bench.setup import Setup
from ..bench.speed import Speed, SpeedPart


@pytest.mark.parametrize(
    ("sign", "measured", "met"),
    [
        ("≥", [1.2, 1.3, 9.0], True),
        ("≥", [9.0, 1.2, 1.2], False),
        ("≤", [1.2, 9.0, 1.3], True),
        ("≤", [1.4, 1.4, 0.0], False),
        ("≥", [], False),
        ("≤", [], False),
    ],
)
def test_a_goal_is_judged_by_the_median_and_missed_where_nothing_was_measured(
    sign: str, measured: list[float], met: bool
) -> None:
    assert Goal("part", "what", sign, 1.3, measured).met is met  # type: ignore[arg-type]


def test_ratios_pair_the_rounds() -> None:
    assert paired([2.0, 6.0], [1.0, 2.0]) == [2.0, 3.0]


def test_the_page_says_what_was_met_missed_and_not_measured(tmp_path: Path) -> None:
    part = SpeedPart("random model", ("mlxserve", "peer"), packaged=False)
    part.speeds["mlxserve"][4] = [
        Speed(60.0, 80.0, 90.0, 0.4),
        Speed(62.0, 82.0, 92.0, 0.5),
        Speed(64.0, 84.0, 94.0, 0.6),
    ]
    goals = [
        Goal("many", "this", "≥", 1.0, [1.1, 1.2, 1.3]),
        Goal("many", "that", "≤", 1.0, [1.1, 1.2, 1.3]),
        Goal("turns", "other", "≤", 1.0, []),
    ]
    write(tmp_path / "BENCHMARKS.md", goals, [part], Setup(3, 1, 32), "python -m tests.bench")
    page = (tmp_path / "BENCHMARKS.md").read_text()
    assert "## Goals: 1 of 3 met" in page
    assert "| many | this | ≥ 1 | 1.2 (1.1-1.3) | met |" in page
    assert "| many | that | ≤ 1 | 1.2 (1.1-1.3) | missed |" in page
    assert "| turns | other | ≤ 1 | not measured | missed |" in page
    assert "| mlxserve, 1 rank, --speculation off | tokens/s | - | 62.0 (60.0-64.0) | - | - |" in page
    told = json.loads((tmp_path / "BENCHMARKS.json").read_text())
    assert [goal["met"] for goal in told["goals"]] == [True, False, False]
    assert told["speeds"]["random model"]["mlxserve"]["4"][1]["tokens"] == 62.0
    assert told["facts"]["threads"] == 1


def test_what_a_former_run_measured_of_other_parts_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    page, setup = tmp_path / "BENCHMARKS.md", Setup(1, 1, 32)
    first, second = (SpeedPart(name, ("peer",), packaged=False) for name in ("random model", "packaged model"))
    first.speeds["peer"][4] = [Speed(60.0)]
    old = [Goal("random model", "this", "≥", 1.0, [1.1]), Goal("many", "that", "≥", 1.0, [1.2])]
    write(page, old, [first, second], setup, "python -m tests.bench")
    assert "run of" not in page.read_text()

    first, second = (SpeedPart(name, ("peer",), packaged=False) for name in ("random model", "packaged model"))
    second.speeds["peer"][4] = [Speed(30.0)]
    new = [Goal("many", "that", "≥", 1.0, [0.9]), Goal("packaged model", "this", "≥", 1.0, [1.3])]
    write(page, new, [first, second], setup, "python -m tests.bench --keep", keep=True)
    text = page.read_text()
    assert "## Goals: 2 of 3 met" in text
    assert "| random model | this | ≥ 1 | 1.1 (1.1-1.1) | met |" in text
    assert "| many | that | ≥ 1 | 0.9 (0.9-0.9) | missed |" in text
    assert "| mlx_lm.server, 1 rank | tokens/s | - | 60.0 (60.0-60.0) | - | - |" in text
    assert "| mlx_lm.server, 1 rank | tokens/s | - | 30.0 (30.0-30.0) | - | - |" in text

    write(page, new, [first, second], setup, "python -m tests.bench")
    assert "random model | this" not in page.read_text()
