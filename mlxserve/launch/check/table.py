"""The findings for people: a line each, in columns, and under it what to do."""

from __future__ import annotations

import os
from typing import TextIO

from mlxserve.launch.check.finding import Finding, Level

_MARKS: dict[Level, str] = {"ok": "ok  ", "warning": "warn", "error": "FAIL"}
_COLOURS: dict[Level, int] = {"ok": 32, "warning": 33, "error": 31}


def write_table(findings: list[Finding], target: TextIO) -> None:
    """Write them to `target`, in colours where that is a terminal and NO_COLOR is not set."""
    coloured = target.isatty() and "NO_COLOR" not in os.environ
    hosts = max((len(finding.host) for finding in findings), default=0)
    subjects = max((len(finding.subject) for finding in findings), default=0)
    for finding in findings:
        mark = _MARKS[finding.level]
        if coloured:
            mark = f"\033[{_COLOURS[finding.level]}m{mark}\033[0m"
        print(f"{mark}  {finding.host:{hosts}}  {finding.subject:{subjects}}  {finding.message}", file=target)
        if finding.advice:
            print(" " * (hosts + subjects + 10) + f"→ {finding.advice}", file=target)
    target.flush()
