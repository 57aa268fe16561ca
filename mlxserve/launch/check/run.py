"""`mlxserve check`: findings first, then the group and its self-test, told to people or as one JSON document."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable

import msgspec

from mlxserve.bundle import build_id
from mlxserve.config import Settings
from mlxserve.errors import CheckFailed
from mlxserve.launch import hostfile as hosts_file
from mlxserve.launch import launcher
from mlxserve.launch.check.finding import Finding
from mlxserve.launch.check.judge import judge, judge_alone
from mlxserve.launch.check.report import Group, Report, write
from mlxserve.launch.check.round import this_machine, visit_all
from mlxserve.launch.check.table import write_table
from mlxserve.launch.command import program
from mlxserve.launch.output import say
from mlxserve.launch.request import LaunchRequest
from mlxserve.launch.signals import run_unless_signalled


def run(request: LaunchRequest, settings_for: Callable[[int], Settings], as_json: bool) -> int:
    """Look, then form the group; returns its exit code. Raises CheckFailed where a finding is an error."""
    findings = _findings(request, settings_for)
    request = msgspec.structs.replace(request, deploy=False)
    errors = sum(finding.level == "error" for finding in findings)
    if as_json:
        group = None if errors else _heard(request)
        report = Report(group is not None and group.ok, findings, group)
        write(report)
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
    visits = run_unless_signalled(visit_all(hosts, request, settings, program(request.program)))
    # A program that is named need not be the one that runs now: then its hosts are compared with each other.
    build = "" if request.program else build_id()
    is_needed = hosts.backend.startswith("jaccl") and not request.has_fallback
    findings = judge(visits, build, hosts.envs, is_needed)
    return [_bearable(finding) for finding in findings] if request.has_fallback else findings


def _bearable(finding: Finding) -> Finding:
    """The finding where there is a ring to fall back to: without RDMA it is slower, but goes on."""
    is_error = finding.subject == "RDMA" and finding.level == "error"
    return msgspec.structs.replace(finding, level="warning") if is_error else finding


def _heard(request: LaunchRequest) -> Group:
    """Form the group and keep what its ranks say."""
    output, log = (io.TextIOWrapper(io.BytesIO(), "utf-8", "replace") for _ in range(2))
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(log):
        code = launcher.run(request, "check")
    lines = [line.partition("] ")[2] for line in _said(output)]
    return Group(code == 0 and bool(lines), code, lines, _said(log))


def _said(stream: io.TextIOWrapper) -> list[str]:
    stream.seek(0)
    return stream.read().splitlines()
