"""BENCHMARKS.md, and the same as JSON."""

from __future__ import annotations

import platform
import time
from pathlib import Path
from typing import Any

import msgspec

from mlxserve.versions import lines

from .goals import Goal
from .setup import Setup
from .speed import STREAMS, SpeedPart, Speeds

INTRODUCTION = """\
# Benchmarks

Made by `make bench` (`python -m tests.bench`). Ratios count, not absolute times: subjects were measured in turn, round
by round and number of streams by number of streams, on a machine that may have had other work. Every rank stands for a
machine of its own, so all have the same number of BLAS threads. On Linux `mlx_lm.server` is given OpenBLAS, which
mlxserve preloads by itself; what else it does there (README: slow on Linux) is also done for the bare loop. What each
figure means is told by `mlxserve bench --help`.

The tokens/s of mlxserve are those of its default start, which guesses tokens (README: several tokens at a time); beside
them stand those with `--speculation off`. How much guessing wins depends on the text: the random model soon repeats
itself, which flatters it; the packaged model writes lists of facts, no question twice. For all subjects its answers end
at their bound, not where it would end some of them. Decoding is compared with the bare loop without guesses.
"""


def write(
    path: Path, goals: list[Goal], parts: list[SpeedPart], setup: Setup, command: str, *, keep: bool = False
) -> None:
    """Write `path`, and the same figures as JSON beside it; with `keep` also what that has of other parts."""
    machine = facts(setup, command)
    run = ", ".join([machine["date"], *(line for line in machine["versions"] if line.startswith("build "))])
    goals = [msgspec.structs.replace(goal, run=run) for goal in goals]
    if keep and path.with_suffix(".json").exists():
        goals = _kept(path.with_suffix(".json"), {goal.part for goal in goals}, parts) + goals
    path.write_text(markdown(goals, parts, machine))
    speeds = {part.name: msgspec.to_builtins(part.speeds, str_keys=True) for part in parts}
    told = [msgspec.to_builtins(goal) | {"value": goal.value, "met": goal.met} for goal in goals]
    document = {"facts": machine, "goals": told, "speeds": speeds}
    path.with_suffix(".json").write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")


def _kept(path: Path, measured: set[str], parts: list[SpeedPart]) -> list[Goal]:
    """The goals of the parts that were not `measured` again; fills the speeds of those in."""
    document = msgspec.json.decode(path.read_bytes())
    for part in parts:
        if part.name not in measured:
            for subject, found in msgspec.convert(document["speeds"][part.name], Speeds, strict=False).items():
                part.speeds[subject].update(found)
    return [goal for goal in msgspec.convert(document["goals"], list[Goal]) if goal.part not in measured]


def facts(setup: Setup, command: str) -> dict[str, Any]:
    """When, where, with what."""
    versions = [line for line in lines() if not line.startswith("program ")]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        "versions": versions,
        "command": command,
        "rounds": setup.rounds,
        "threads": setup.threads,
        "tokens": setup.tokens,
    }


def markdown(goals: list[Goal], parts: list[SpeedPart], machine: dict[str, Any]) -> str:
    """The whole page."""
    told = [f"- {name}: {', '.join(value) if isinstance(value, list) else value}" for name, value in machine.items()]
    met = sum(goal.met for goal in goals)
    told += [f"- run of {', '.join(names)}: {run}" for run, names in _runs(goals).items()]
    pieces = [INTRODUCTION, "\n".join(told), f"## Goals: {met} of {len(goals)} met", _goals(goals)]
    for part in parts:
        header = ["", "", *(f"{number} stream{'s' * (number > 1)}" for number in STREAMS)]
        if rows := part.tables():
            pieces += [
                f"## {part.name}: medians of {machine['rounds']} rounds (lowest-highest)",
                _table([header, *rows]),
            ]
    return "\n\n".join(piece.rstrip() for piece in pieces) + "\n"


def summary(goals: list[Goal]) -> str:
    """The goals for a terminal."""
    return "\n".join(
        f"{met:6}  {part}: {what}: {measured}, must be {bound}" for part, what, bound, measured, met in map(_row, goals)
    )


def _runs(goals: list[Goal]) -> dict[str, list[str]]:
    """The parts that were measured in each run, where there were several."""
    runs: dict[str, list[str]] = {}
    for run, part in dict.fromkeys((goal.run, goal.part) for goal in goals):
        runs.setdefault(run, []).append(part)
    return runs if len(runs) > 1 else {}


def _goals(goals: list[Goal]) -> str:
    return _table([["part", "goal", "must be", "measured", ""], *map(_row, goals)])


def _row(goal: Goal) -> list[str]:
    if goal.value is None:
        measured = "not measured"
    else:
        measured = f"{goal.value:.4g} ({min(goal.measured):.4g}-{max(goal.measured):.4g})"
    note = f"; {goal.note}" if goal.note else ""
    return [goal.part, goal.what, f"{goal.sign} {goal.bound:g}", measured + note, "met" if goal.met else "missed"]


def _table(rows: list[list[str]]) -> str:
    head, *others = rows
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *others))


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown processor"
