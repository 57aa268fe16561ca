"""What `mlxserve hosts` finds: the machines behind some names, and which of their addresses really answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Sequence
from subprocess import DEVNULL, PIPE

from mlxserve.errors import UserError
from mlxserve.launch import thunderbolt
from mlxserve.launch.hostfile import Host
from mlxserve.launch.interfaces import SCRIPT, interfaces_from
from mlxserve.launch.probing import Pair, answering
from mlxserve.launch.remote import Answer, run_on, unreached
from mlxserve.launch.ring import Machine, Reached, candidates
from mlxserve.launch.thunderbolt import Cabling


async def machines_of(names: Sequence[str]) -> list[Machine]:
    """The machines behind `names`. Raises UserError, which names all that cannot be asked."""
    hosts = await asyncio.gather(*map(_located, names))
    machines, failures = [], []
    for host, answer in zip(hosts, await _answers(hosts, SCRIPT), strict=True):
        try:
            machines.append(Machine(host, interfaces_from(answer.output)))
        except ValueError as error:
            failures.append(f"{host.ssh} does not tell its addresses: {answer.complaint or error}")
    _raise(failures)
    return machines


async def reached_among(machines: Sequence[Machine]) -> Reached:
    """What answers whom: the addresses of one network one another, and all others the first machine's."""
    first, *others = machines
    to_first: list[Pair] = [("", each.address) for each in first.interfaces]
    asked = [_pairs(machine, machines) + (to_first if machine in others else []) for machine in machines]
    answers = await asyncio.gather(
        *(answering(machine.host, pairs) for machine, pairs in zip(machines, asked, strict=True))
    )
    return {
        (near or machine.name, far): milliseconds
        for machine, found in zip(machines, answers, strict=True)
        for (near, far), milliseconds in found.items()
    }


async def cabling_of(machines: Sequence[Machine]) -> Cabling:
    """The Thunderbolt cables between Macs. Raises UserError."""
    answers = await _answers([machine.host for machine in machines], thunderbolt.SCRIPT)
    return Cabling([machine.name for machine in machines], [answer.output for answer in answers])


async def _located(name: str) -> Host:
    """The host with the addresses that its name stands for, by which this machine is recognised."""
    try:
        process = await asyncio.create_subprocess_exec("ssh", "-G", "--", name, stdout=PIPE, stderr=DEVNULL)
    except FileNotFoundError as error:
        raise UserError("ssh is not installed on this machine") from error
    output, _ = await process.communicate()
    settings = dict(line.split(" ", 1) for line in output.decode(errors="replace").splitlines() if " " in line)
    return Host(name, await _addresses(settings.get("hostname", name.rpartition("@")[2])))


async def _addresses(name: str) -> tuple[str, ...]:
    """Asked for in a thread that nobody waits for where the command is ended: asyncio's own threads are waited for."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[str, ...]] = loop.create_future()

    def ask() -> None:
        try:
            found = socket.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []
        addresses = tuple(str(address[0]) for *_, address in found)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, addresses)

    def settle(addresses: tuple[str, ...]) -> None:
        if not answer.cancelled():
            answer.set_result(addresses)

    threading.Thread(target=ask, daemon=True).start()
    return await answer


async def _answers(hosts: Sequence[Host], script: str) -> list[Answer]:
    answers = await asyncio.gather(*(run_on(host, script) for host in hosts))
    _raise(
        [
            unreached(host, answer) + (" If it is this machine, name it 127.0.0.1" if host is hosts[0] else "")
            for host, answer in zip(hosts, answers, strict=True)
            if not answer.reached
        ]
    )
    return answers


def _raise(failures: list[str]) -> None:
    if failures:
        raise UserError("\n  ".join(["not all hosts can be asked:", *failures] if len(failures) > 1 else failures))


def _pairs(machine: Machine, machines: Sequence[Machine]) -> list[Pair]:
    others = [other for other in machines if other is not machine]
    return [(link.near.address, link.far.address) for other in others for link in candidates(machine, other)]
