"""What models there are on the hosts of a hosts file: each is asked by a `mlxserve models --json` of its own."""

from __future__ import annotations

import asyncio
import shlex

import msgspec

from mlxserve.errors import UserError
from mlxserve.launch import hostfile
from mlxserve.launch.command import program, quoted
from mlxserve.launch.hostfile import Host
from mlxserve.launch.remote import run_on, unreached
from mlxserve.launch.signals import run_unless_signalled
from mlxserve.library.flags import ModelsRequest
from mlxserve.library.listing import Entry

_SECONDS = 60.0


class Listing(msgspec.Struct, frozen=True):
    """What a host answers."""

    models: list[Entry]


def models_of_hosts(request: ModelsRequest) -> dict[str, list[Entry]]:
    """What each host has, by its name for ssh, rank 0's first. Raises UserError, which names all that do not tell."""
    hosts = hostfile.read(request.hostfile).hosts
    folders = [word for folder in request.folders for word in ("--folder", folder)]
    first, *words = program(request.program)
    script = f"{quoted(first)} {shlex.join([*words, 'models', '--json', *folders])}"
    listings = run_unless_signalled(_all_of(hosts, script))
    if failures := [found for found in listings if isinstance(found, str)]:
        raise UserError("; ".join(failures))
    return {host.ssh: found.models for host, found in zip(hosts, listings, strict=True) if isinstance(found, Listing)}


async def _all_of(hosts: tuple[Host, ...], script: str) -> list[Listing | str]:
    return await asyncio.gather(*(_listing(host, script) for host in hosts))


async def _listing(host: Host, script: str) -> Listing | str:
    """What `host` has, or a sentence for why it does not tell."""
    answer = await run_on(host, script, timeout=_SECONDS)
    if not answer.reached:
        return unreached(host, answer)
    for line in answer.output.splitlines():  # a shell's start-up files may have said something first
        try:
            return msgspec.json.decode(line, type=Listing)
        except msgspec.DecodeError:
            continue
    complaint = answer.complaint.splitlines()[-1:] or [f"it ended with exit code {answer.code}"]
    return f"{host.ssh} does not tell its models: {complaint[0]}"
