"""`mlxserve bench`: measures, and prints what it found."""

from __future__ import annotations

import shutil
import signal
import sys
from itertools import groupby
from typing import Any

import msgspec

from mlxserve.bench.chart import FULL, chart
from mlxserve.bench.document import document
from mlxserve.bench.request import BenchRequest
from mlxserve.bench.server import Server
from mlxserve.bench.sweep import Measured, Subject, Sweep, measure, points
from mlxserve.bench.table import ratios, table
from mlxserve.bench.workloads import WORKLOADS, Asking
from mlxserve.errors import UserError

FAILED = 1
"""The exit code where requests failed."""
INTERRUPTED = 128 + signal.SIGINT


def run(request: BenchRequest) -> int:
    """Measure and print; returns the exit code. Raises UserError where nothing can be measured."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    urls = [(request.url, request.model)]
    urls += [(request.against, request.against_model)] if request.against else []
    servers = [(Server(url, request.api_key), model) for url, model in urls]
    subjects = [Subject(server, server.model(model)) for server, model in servers]
    asking = Asking(tokens=request.tokens, temperature=request.temperature)
    sweep = Sweep(subjects, asking, request.rounds, request.seed, _say)
    wanted = points([WORKLOADS[name] for name in request.workloads], list(request.streams), request.requests)
    measured: list[Measured] = []
    try:
        measured.extend(measure(sweep, wanted))
    finally:
        _report(measured, request, subjects)
    return _exit_code(measured)


def _report(measured: list[Measured], request: BenchRequest, subjects: list[Subject]) -> None:
    if not measured:
        return
    if request.json != "-":
        print(text(measured, [subject.server.url for subject in subjects]), flush=True)
    if request.json:
        settings: dict[str, Any] = msgspec.to_builtins(request)
        for name in ("api_key", "url", "against", "model", "against_model", "json"):
            del settings[name]
        urls, models = [subject.server.url for subject in subjects], [subject.model for subject in subjects]
        _write(request.json, msgspec.json.format(msgspec.json.encode(document(measured, urls, models, settings))))


def text(measured: list[Measured], names: list[str]) -> str:
    """The tables and charts, workload by workload."""
    parts = []
    for name, group in groupby(measured, lambda each: each.point.workload.name):
        these = list(group)
        parts.append(f"{name}: {WORKLOADS[name].purpose}")
        parts += [f"{server}\n{table(these, index)}" for index, server in enumerate(names)]
        if len(names) > 1:
            parts.append(f"tokens/s of the first / of the second\n{ratios(these)}")
        parts.append(chart(these, names, shutil.get_terminal_size().columns, _has_blocks()))
    return "\n\n".join(parts)


def _write(path: str, content: bytes) -> None:
    if path == "-":
        print(content.decode())
        return
    try:
        with open(path, "wb") as file:
            file.write(content + b"\n")
    except OSError as error:
        raise UserError(f"--json {path} cannot be written: {error.strerror}") from error


def _exit_code(measured: list[Measured]) -> int:
    if any(not each.whole for each in measured):
        return INTERRUPTED
    failed = any(figures.errors for each in measured for figures in each.figures)
    return FAILED if failed else 0


def _has_blocks() -> bool:
    try:
        FULL.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _say(line: str) -> None:
    print(f"mlxserve: {line}", file=sys.stderr, flush=True)
