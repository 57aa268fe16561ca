"""`mlxserve hosts`: writes a hosts file for some names, in MLX's format.

MLX's `distributed_config` makes one too, and its parts are used where they fit: the format, the names of a Mac's
ports, the cabling for RDMA. But it is for Macs alone, asks by an ssh that can wait for a password for ever, takes en0's
address untried over Ethernet, and over Thunderbolt invents addresses and sets them by sudo.

One address for each host is enough, however many cables there are: what the ranks send is small enough for MLX's ring
to use but one connection of several.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence

import msgspec
from mlx._distributed_utils.common import Host as MlxHost
from mlx._distributed_utils.common import Hostfile as MlxHostfile

from mlxserve.errors import UserError
from mlxserve.launch.discovery import cabling_of, machines_of, reached_among
from mlxserve.launch.hostfile import Rdma
from mlxserve.launch.output import say
from mlxserve.launch.ring import (
    Link,
    Machine,
    Reached,
    Ring,
    address_for_all,
    link_between,
    ring_of,
    shared_addresses,
    silent,
    without,
)
from mlxserve.launch.signals import run_unless_signalled
from mlxserve.launch.thunderbolt import Cabling
from mlxserve.place import CONTROL


class HostsRequest(msgspec.Struct, frozen=True):
    """The names that ssh knows the hosts by, rank 0 first, and where the file goes."""

    names: tuple[str, ...]
    backend: str = "ring"
    output: str = ""
    """Empty: standard output."""
    force: bool = False
    """Whether a file that exists is overwritten."""


def run(request: HostsRequest) -> int:
    """Find the links, tell of them on stderr, and write the file; returns the exit code. Raises UserError."""
    _check(request)
    content = _text(run_unless_signalled(_found(request)))
    if not request.output:
        print(content, end="")
        return 0
    try:
        with open(request.output, "w" if request.force else "x") as file:
            file.write(content)
    except OSError as error:
        raise UserError(f"cannot write {request.output}: {error.strerror}") from error
    say(f"wrote {request.output}; next: mlxserve check --hostfile {request.output}")
    return 0


def _check(request: HostsRequest) -> None:
    if len(request.names) < 2:
        raise UserError("name two hosts or more: a machine alone needs no hosts file")
    for name, count in Counter(request.names).items():
        if count > 1:
            raise UserError(f"{name} is named {count} times, but each machine runs one rank")
    if request.output and not request.force and os.path.exists(request.output):
        raise UserError(f"{request.output} exists: name another file, or overwrite it with --force")


async def _found(request: HostsRequest) -> MlxHostfile:
    machines = await machines_of(request.names)
    shared = shared_addresses(machines)
    for address, names in shared.items():
        say(f"warning: {address} is not used, because {' and '.join(names)} have it: give all but one another")
    machines = without(shared, machines)
    reached = await reached_among(machines)
    if request.backend == "ring":
        ring = ring_of(machines, reached)
        _tell_ring(request, ring, reached)
        return _over_ring(ring)
    return _over_rdma(machines, reached, await cabling_of(machines), request.backend)


def _over_ring(ring: Ring) -> MlxHostfile:
    hosts = [
        MlxHost(rank, machine.name, [address], [])
        for rank, (machine, address) in enumerate(zip(ring.machines, ring.addresses, strict=True))
    ]
    envs = [f"{CONTROL}={ring.for_all}"] if ring.for_all != ring.addresses[0] else []
    return MlxHostfile(hosts, "ring", envs)


def _over_rdma(machines: Sequence[Machine], reached: Reached, cabling: Cabling, backend: str) -> MlxHostfile:
    """Tensors go over RDMA, and all else to rank 0 at the one address that is listed for it."""
    for_all = address_for_all(machines, reached)
    order = cabling.order() if backend == "jaccl-ring" else cabling.mesh()
    hosts = []
    for rank, (number, devices) in enumerate(zip(order, cabling.rdma(order, backend == "jaccl-ring"), strict=True)):
        link = link_between(machines[number], machines[0], reached) if rank else None
        ips = [for_all] if rank == 0 else [link.near.address] if link else []
        hosts.append(MlxHost(rank, machines[number].name, ips, devices))
        say(f"{machines[number].name} {' '.join(ips)}: {', '.join(_devices(devices))}")
    return MlxHostfile(hosts, backend)


def _devices(rdma: list[Rdma]) -> list[str]:
    return [device for each in rdma if each for device in ([each] if isinstance(each, str) else each)]


def _tell_ring(request: HostsRequest, ring: Ring, reached: Reached) -> None:
    """Say which links were taken, and what is wrong with them."""
    names = [machine.name for machine in ring.machines]
    if names != list(request.names):
        say(f"the ranks are {', '.join(names)}: in this order each reaches the next one over better links")
    hops = list(zip(ring.machines, (*ring.machines[1:], ring.machines[0]), ring.links, strict=True))
    for one, other, link in hops[: 1 if len(hops) == 2 else None]:
        for failed in silent(one, other, reached):
            if failed.kind < link.kind:
                say(f"warning: {_described(one, other, failed)} do not answer each other: is the cable in?")
        took = f", {link.milliseconds:.1f} ms" if link.milliseconds is not None else ""
        say(f"{_described(one, other, link)}{took}")
    for machine in ring.machines:
        for each in machine.interfaces:
            if each.is_link_local and each.address in (*ring.addresses, ring.for_all):
                say(f"warning: {each} of {machine.name} changes by itself: set a fixed address, then repeat this")
    if ring.for_all != ring.addresses[0]:
        say(f"all reach {names[0]} at {ring.for_all}: its control links go there")


def _described(one: Machine, other: Machine, link: Link) -> str:
    return f"{one.name} {link.near.address} — {other.name} {link.far.address} over {link.medium}"


def _text(hostfile: MlxHostfile) -> str:
    """The file's content, a line for each host."""
    content = hostfile.to_json()
    lines = ",\n".join(f"    {json.dumps(host)}" for host in content.pop("hosts"))
    rest = json.dumps(content, indent=2).removesuffix("\n}")
    return f'{rest},\n  "hosts": [\n{lines}\n  ]\n}}\n'
