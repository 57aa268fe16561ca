"""`mlxserve launch`: from a request to running ranks, and to an exit code."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from mlxserve.launch import hostfile as hosts_file
from mlxserve.launch.command import anywhere, folder, mpirun, program, starting
from mlxserve.launch.deploy import deploy, this_binary
from mlxserve.launch.hostfile import Host, Hostfile
from mlxserve.launch.output import say
from mlxserve.launch.ports import Ports
from mlxserve.launch.process import Start
from mlxserve.launch.processes import Processes
from mlxserve.launch.ranks import HARMFUL, Rank, environment_of, ranks_of, secrets_of
from mlxserve.launch.request import LaunchRequest
from mlxserve.launch.script import script_of
from mlxserve.place import PROGRESS

INTERRUPTED = 130


def run(request: LaunchRequest, subcommand: str, validate: Callable[[int], object] = lambda ranks: None) -> int:
    """Run `PROGRAM subcommand FLAGS` as every rank until one ends or a signal comes; returns the exit code.

    `validate` is given the number of ranks before any is started. Raises UserError where the request is wrong.
    """
    hosts = prepare(request, validate)
    with claimed(request, hosts) as request:
        command = [*program(request.program), subcommand, *request.flags]
        interrupted = INTERRUPTED if subcommand == "check" else 0  # to be ended is how serving ends, but no check
        return asyncio.run(_run(_starts(hosts, request, command), request, interrupted))


def prepare(request: LaunchRequest, validate: Callable[[int], object]) -> Hostfile:
    """The hosts, with the program on them, if that is asked for. Raises UserError where they or the flags are wrong."""
    hosts = hosts_of(request)
    validate(len(hosts.hosts))
    if request.has_fallback:
        hosts_file.require_fallback(hosts)
    if not request.public_addresses:
        hosts_file.require_private(hosts)
    _warn(hosts)
    deploy_first(request, hosts)
    return hosts


@contextmanager
def claimed(request: LaunchRequest, hosts: Hostfile) -> Iterator[LaunchRequest]:
    """The request with the first of the ports that the ranks on this machine have to themselves meanwhile."""
    if request.ranks <= 1 or hosts.backend != "ring":
        yield request
        return
    below = int(request.min_ranks > 0)  # of the ring's ports, the one at which the nodes meet
    first = request.starting_port - below if request.starting_port else 0
    with Ports(request.ranks * request.connections_per_ip + below, first) as ports:
        yield msgspec.structs.replace(request, starting_port=ports.first + below)


def deploy_first(request: LaunchRequest, hosts: Hostfile) -> None:
    """Copy this program to the hosts, if that is asked for. Raises UserError."""
    if request.deploy:
        deploy(hosts.hosts, anywhere(program(request.program)[0]), this_binary())


async def _run(starts: list[Start], request: LaunchRequest, after_signal: int) -> int:
    return await Processes(starts, request.drain_seconds, request.min_ranks).run(after_signal)


def hosts_of(request: LaunchRequest) -> Hostfile:
    """The hosts that are named. Raises UserError."""
    if request.hostfile:
        return hosts_file.read(request.hostfile, request.backend)
    return hosts_file.ranks_here(request.ranks, request.backend)


def _starts(hosts: Hostfile, request: LaunchRequest, command: list[str]) -> list[Start]:
    here = folder()
    if hosts.backend == "mpi":
        secrets = secrets_of(request)
        rank = Rank("mpirun", Host(hosts_file.THIS_MACHINE), secrets=secrets)
        return [_start(rank, mpirun(hosts.hosts, environment_of(hosts), command, tuple(secrets)), here)]
    first, *others = ranks_of(hosts, request)
    if sys.stderr.isatty():
        first = msgspec.structs.replace(first, environment={**first.environment, PROGRESS: "told"})
    return [_start(rank, command, here) for rank in (first, *others)]


def _start(rank: Rank, command: list[str], here: str) -> Start:
    secrets, program = tuple(rank.secrets.values()), anywhere(command[0])
    return Start(rank.label, starting(rank.host, script_of(rank, command, here)), program, secrets)


def _warn(hosts: Hostfile) -> None:
    if HARMFUL in os.environ or any(variable.startswith(f"{HARMFUL}=") for variable in hosts.envs):
        say(f"warning: {HARMFUL} is not passed on, because it deadlocks Macs")
