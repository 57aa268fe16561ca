"""`mlxserve launch --detach`, `--keep` and `--stop`."""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import Callable

import msgspec

from mlxserve.config import Settings
from mlxserve.errors import MlxserveError, UserError
from mlxserve.launch.command import UNREACHED, anywhere, folder, program, starting
from mlxserve.launch.detach.followers import Followers
from mlxserve.launch.detach.keeper import Keeper
from mlxserve.launch.detach.orders import Begin, End, line_of, rank_name
from mlxserve.launch.hostfile import Host, Hostfile
from mlxserve.launch.launcher import INTERRUPTED, claimed, hosts_of, prepare
from mlxserve.launch.output import say
from mlxserve.launch.process import Start
from mlxserve.launch.ranks import Rank, labels_of, ranks_of
from mlxserve.launch.remote import Answer, run_on, unreached
from mlxserve.launch.request import LaunchRequest
from mlxserve.launch.script import MISSING, plain_script_of
from mlxserve.launch.signals import run_unless_signalled

OTHERS = 30.0
"""Seconds that a host may take beyond those in which answers come to their end."""


def detach(request: LaunchRequest, validate: Callable[[int], object]) -> int:
    """Start all ranks so that they go on by themselves; returns 0 once rank 0 serves, else what a rank ended with."""
    hosts = _prepared(request, validate)
    with claimed(request, hosts) as request:
        code = asyncio.run(_follow(_starts(hosts, request), request.min_ranks))
    if code == 0:
        _tell(request, hosts)
    return code


def keep(request: LaunchRequest, validate: Callable[[int], object]) -> int:
    """Start all ranks so that they go on by themselves, and again when one ends, until a signal ends them all."""
    hosts = _prepared(request, validate)
    with claimed(request, hosts) as request:
        return asyncio.run(_keep(hosts, request))


def _prepared(request: LaunchRequest, validate: Callable[[int], object]) -> Hostfile:
    flag = f"--{request.detached}"
    if not request.http.port:
        raise UserError(f"{flag} needs a --port other than 0, by which the server is found again")
    hosts = prepare(request, validate)
    if hosts.backend == "mpi":
        raise UserError(f"{flag} is not for the mpi backend, whose mpirun ends the ranks when it ends itself")
    return hosts


async def _keep(hosts: Hostfile, request: LaunchRequest) -> int:
    keeper = Keeper(_starts(hosts, request))
    reason = await keeper.run()
    drain_seconds = request.drain_seconds if reason is signal.SIGTERM else 0.0
    stopping = asyncio.create_task(_stop(hosts.hosts, msgspec.structs.replace(request, drain_seconds=drain_seconds)))
    again = asyncio.create_task(keeper.signal())
    await asyncio.wait([stopping, again], return_when=asyncio.FIRST_COMPLETED)
    if again.done():
        stopping.cancel()
        await _stop(hosts.hosts, msgspec.structs.replace(request, drain_seconds=0.0))
        return INTERRUPTED
    again.cancel()
    return stopping.result() if isinstance(reason, signal.Signals) else reason


async def _follow(starts: list[Start], least: int) -> int:
    return await Followers(starts, least=least).run(INTERRUPTED)


def _starts(hosts: Hostfile, request: LaunchRequest) -> list[Start]:
    return [_start(rank, number, request) for number, rank in enumerate(ranks_of(hosts, request))]


def _start(rank: Rank, number: int, request: LaunchRequest) -> Start:
    order = Begin(
        name=rank_name(request.http.port, number),
        words=("serve", *request.flags),
        environment=rank.environment,
        files=rank.files,
        secrets=rank.secrets,
        address="" if number else request.http.address,
        has_tls=request.http.has_tls,
        for_good=request.detached == "keep",
    )
    command = starting(rank.host, _script(request), notices_loss=order.for_good)
    return Start(rank.label, command, anywhere(program(request.program)[0]), (line_of(order),))


def _script(request: LaunchRequest) -> str:
    return plain_script_of([*program(request.program), "detached"], folder())


def _tell(request: LaunchRequest, hosts: Hostfile) -> None:
    where = f" on {hosts.hosts[0].ssh}" if request.hostfile else ""
    say(f"serving at {request.http.url}{where}; how it is: {request.http.url}/health")
    say(f"it goes on by itself until `{_stopping(request)}`")


def _stopping(request: LaunchRequest) -> str:
    """The command line that ends what was started."""
    where = ["--hostfile", request.hostfile] if request.hostfile else ["-n", str(request.ranks)]
    named = ["--program", request.program] if request.program else []
    timed = ["--drain-seconds", f"{request.drain_seconds:g}"]
    if request.drain_seconds == Settings().drain_seconds:
        timed = []
    return shlex.join(["mlxserve", "launch", "--stop", *where, "--port", str(request.http.port), *named, *timed])


def stop(request: LaunchRequest, validate: Callable[[int], object]) -> int:
    """End the ranks that go on by themselves, wherever they still run; returns 0 where none is left."""
    hosts = hosts_of(request)
    validate(len(hosts.hosts))
    return run_unless_signalled(_stop(hosts.hosts, request))


async def _stop(hosts: tuple[Host, ...], request: LaunchRequest) -> int:
    labels = labels_of(hosts)
    return max(
        await asyncio.gather(*(_stop_one(host, labels[number], number, request) for number, host in enumerate(hosts)))
    )


async def _stop_one(host: Host, label: str, number: int, request: LaunchRequest) -> int:
    order = End(rank_name(request.http.port, number), request.drain_seconds)
    timeout = request.drain_seconds + OTHERS
    answer = await run_on(host, _script(request), f"{line_of(order)}\n".encode(), timeout)
    say(f"{label}: {_told(host, answer)}")
    if not answer.reached:
        return UNREACHED
    return MlxserveError.exit_code if answer.code else 0


def _told(host: Host, answer: Answer) -> str:
    if not answer.reached:
        return unreached(host, answer)
    if answer.code == MISSING:
        return "there is no such program: name its path there with --program"
    return answer.output.strip() if answer.code == 0 else answer.complaint or f"ended with exit code {answer.code}"
