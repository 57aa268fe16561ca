"""From what is known of the hosts to the findings, host by host in their order."""

from __future__ import annotations

import os
from collections.abc import Iterator

from mlxserve.launch.check import access_findings as access
from mlxserve.launch.check import host_findings as host
from mlxserve.launch.check import network_findings as network
from mlxserve.launch.check.finding import Finding
from mlxserve.launch.check.model_findings import fits, models
from mlxserve.launch.check.visit import Visit
from mlxserve.launch.ranks import HARMFUL


def judge(visits: list[Visit], build: str, envs: tuple[str, ...] = (), is_jaccl: bool = False) -> list[Finding]:
    """All findings. `build` is what all hosts should have, empty: as the first. `envs` are the hosts file's."""
    findings = [finding for visit in visits for finding in _of_host(visit, visits, build, is_jaccl)]
    return [*findings, *fits(visits), *_variables(visits, envs)]


def judge_alone(visit: Visit) -> list[Finding]:
    """The findings on this machine where all ranks are to run here."""
    return [*_of_machine(visit, [visit], False), *fits([visit])]


def _of_host(visit: Visit, visits: list[Visit], build: str, is_jaccl: bool) -> Iterator[Finding]:
    yield from access.ssh(visit)
    first = next((other for other in visits if other.facts), visit)
    if not build and first.facts:
        yield from access.program(visit, first.facts.build, f"on {first.label}")
    else:
        yield from access.program(visit, build, "here")
    yield from _of_machine(visit, visits, is_jaccl)


def _of_machine(visit: Visit, visits: list[Visit], is_jaccl: bool) -> Iterator[Finding]:
    first = next((other.facts.system for other in visits if other.facts), None)
    yield from host.system(visit, first, is_jaccl)
    facts = visit.facts
    if facts is None:
        return
    yield from host.memory(visit, facts)
    yield from host.disk(visit, facts)
    yield from host.environment(visit, facts)
    yield from host.sleeping(visit, facts)
    yield from network.addresses(visit, facts)
    yield from network.ports(visit, facts)
    yield from network.reachability(visit)
    yield from network.clock(visit)
    yield from host.rdma(visit, facts)
    yield from models(visit, visits)


def _variables(visits: list[Visit], envs: tuple[str, ...]) -> Iterator[Finding]:
    """The variable that deadlocks Macs, where the hosts file or this shell sets it."""
    advice = "take it out: mlxserve does not pass it on"
    if any(variable.startswith(f"{HARMFUL}=") for variable in envs):
        yield Finding("hosts file", "environment", "warning", f"its envs set {HARMFUL}, which deadlocks Macs", advice)
    if HARMFUL in os.environ and not any(visit.is_here for visit in visits):
        message = f"{HARMFUL} is set, which deadlocks Macs"
        yield Finding("this machine", "environment", "warning", message, advice)
