"""What was measured, as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import median

import msgspec

from .subjects import Speeds

Results = dict[str, list[Speeds]]
"""By subject's name, one a round."""

LABELS = {
    "mlxserve": "1 rank:  mlxserve",
    "peer": "1 rank:  mlx_lm.server",
    "mlxserve-2": "2 ranks: mlxserve launch",
    "peer-2-bare": "2 ranks: mlx_lm.server, bare",
    "peer-2-launch": "2 ranks: mlx_lm.server, mlx.launch",
    "limit": "limit:   bare loop, 1 rank",
}
LABEL_WIDTH = 2 + max(map(len, LABELS.values()))
CELL_WIDTH = 21


class Goal(msgspec.Struct, frozen=True):
    """A ratio of two subjects' tokens per second, and what it must reach where that is set."""

    subject: str
    other: str
    label: str
    least: float | None = None


GOALS = (
    Goal("mlxserve", "peer", "1 rank:  mlxserve / mlx_lm.server", 1.0),
    Goal("mlxserve-2", "peer-2-bare", "2 ranks: mlxserve / peer bare", 1.0),
    Goal("mlxserve-2", "peer-2-launch", "2 ranks: mlxserve / peer mlx.launch", 2.0),
    Goal("mlxserve", "limit", "1 rank:  mlxserve / limit"),
    Goal("mlxserve-2", "limit", "2 ranks: mlxserve / limit"),
)


def report(results: Results, streams: tuple[int, ...]) -> str:
    """The tables of speeds, of times to the first token, and of ratios against their goals."""
    header = _line("", (f"{n} stream{'s' * (n > 1)}" for n in streams))
    speeds = [_line(LABELS[name], (_speed(rounds, n) for n in streams)) for name, rounds in results.items()]
    firsts = [
        _line(LABELS[name], (_first_token(rounds, n) for n in streams))
        for name, rounds in results.items()
        if rounds[0][streams[0]].first_token is not None
    ]
    goals = [goal for goal in GOALS if goal.subject in results and goal.other in results]
    ratios = [_line(goal.label, (_ratio(goal, results, n) for n in streams)) for goal in goals]
    parts = [
        ["tokens/s of all streams, prompts counted but for the limit: median (lowest-highest)", header, *speeds],
        ["time to the first text, the median stream's, ms: median (lowest-highest)", header, *firsts],
        ["ratios of tokens/s", header, *ratios],
    ]
    return "\n\n".join("\n".join(part) for part in parts if len(part) > 2)


def _line(label: str, cells: Iterable[str]) -> str:
    return label.ljust(LABEL_WIDTH) + "".join(cell.rjust(CELL_WIDTH) for cell in cells)


def _speed(rounds: list[Speeds], streams: int) -> str:
    return _spread([speeds[streams].tokens_per_second for speeds in rounds], "{:.1f}".format)


def _first_token(rounds: list[Speeds], streams: int) -> str:
    return _spread([1000 * (speeds[streams].first_token or 0) for speeds in rounds], "{:.0f}".format)


def _spread(values: list[float], shown: Callable[[float], str]) -> str:
    return f"{shown(median(values))} ({shown(min(values))}-{shown(max(values))})"


def _ratio(goal: Goal, results: Results, streams: int) -> str:
    ratio = _median(results[goal.subject], streams) / _median(results[goal.other], streams)
    if goal.least is None:
        return f"{ratio:.2f}"
    return f"{ratio:.2f} (≥ {goal.least:.1f}: {'met' if ratio >= goal.least else 'missed'})"


def _median(rounds: list[Speeds], streams: int) -> float:
    return median(speeds[streams].tokens_per_second for speeds in rounds)
