"""`mlxserve check`: findings first, then the group and its self-test, told to people or as one JSON document."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
from collections.abc import Callable, Coroutine

import msgspec

from mlxserve.bundle import build_id
from mlxserve.config import Settings
from mlxserve.errors import CheckFailed
from mlxserve.launch import hostfile as hosts_file
from mlxserve.launch import launcher
from mlxserve.launch.check.finding import Finding
from mlxserve.launch.check.judge import judge, judge_alone
from mlxserve.launch.check.round import this_machine, visit_all
from mlxserve.launch.check.table import write_table
from mlxserve.launch.check.visit import Visit
from mlxserve.launch.command import program
from mlxserve.launch.output import say
from mlxserve.launch.processes import SIGNALS
from mlxserve.launch.request import LaunchRequest


class Group(msgspec.Struct, frozen=True):
    """What came of the group: its exit code, the self-test's lines, and all that was written to stderr."""

    ok: bool
    exit_code: int
    lines: list[str]
    log: list[str]


class Report(msgspec.Struct, frozen=True):
    """What `--json` prints. No group where a finding is an error."""

    ok: bool
    findings: list[Finding]
    group: Group | None = None


def run(request: LaunchRequest, settings_for: Callable[[int], Settings], as_json: bool) -> int:
    """Look, then form the group; returns its exit code. Raises CheckFailed where a finding is an error."""
    findings = _findings(request, settings_for)
    request = msgspec.structs.replace(request, deploy=False)
    errors = sum(finding.level == "error" for finding in findings)
    if as_json:
        group = None if errors else _heard(request)
        report = Report(group is not None and group.ok, findings, group)
        print(msgspec.json.encode(report).decode(), flush=True)
        return CheckFailed.exit_code if group is None else group.exit_code
    write_table(findings, sys.stdout)
    if errors:
        raise CheckFailed(f"{errors} finding{'s' if errors > 1 else ''} to mend before the group can be formed")
    return launcher.run(request, "check")


def _findings(request: LaunchRequest, settings_for: Callable[[int], Settings]) -> list[Finding]:
    if not request.hostfile:
        hosts_file.ranks_here(request.ranks, request.backend)
        return judge_alone(this_machine(settings_for(request.ranks)))
    hosts = hosts_file.read(request.hostfile, request.backend)
    settings = settings_for(len(hosts.hosts))
    launcher.deploy_first(request, hosts)
    say(f"looking at {', '.join(host.ssh for host in hosts.hosts)}")
    visits = asyncio.run(_unless_signalled(visit_all(hosts, request, settings, program(request.program))))
    # A program that is named need not be the one that runs now: then its hosts are compared with each other.
    build = "" if request.program else build_id()
    return judge(visits, build, hosts.envs, hosts.backend.startswith("jaccl"))


async def _unless_signalled(visiting: Coroutine[None, None, list[Visit]]) -> list[Visit]:
    """Let a signal end the visits in good order. Raises KeyboardInterrupt then."""
    task = asyncio.create_task(visiting)
    for number in SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _heard(request: LaunchRequest) -> Group:
    """Form the group and keep what its ranks say."""
    output, log = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(log):
        code = launcher.run(request, "check")
    lines = [line.partition("] ")[2] for line in _said(output)]
    return Group(code == 0 and bool(lines), code, lines, _said(log))


def _said(stream: io.TextIOWrapper) -> list[str]:
    stream.seek(0)
    return stream.read().splitlines()
