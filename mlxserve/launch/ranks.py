"""The ranks of a hosts file and the variables each needs: those that `mlx.launch` sets, and a ring to fall back to."""

from __future__ import annotations

import json

import msgspec

from mlxserve.keys import API_KEY_VARIABLE
from mlxserve.launch.hostfile import Host, Hostfile
from mlxserve.launch.request import DEFAULT_PORT, LaunchRequest
from mlxserve.place import FALLBACK

HARMFUL = "MLX_METAL_FAST_SYNCH"
"""Deadlocks Macs and can wedge their GPUs until a reboot (mlx 3830, 3142): never passed on."""


class Rank(msgspec.Struct, frozen=True):
    """One process to start: on which host, under which label its lines appear, and what MLX needs to know in it."""

    label: str
    host: Host
    environment: dict[str, str] = {}
    files: dict[str, str] = {}
    """The contents of the files whose names a variable of the process must hold, by variable."""
    secrets: dict[str, str] = {}
    """Variables whose values its script reads from its standard input, a line each."""


def ranks_of(hostfile: Hostfile, request: LaunchRequest) -> list[Rank]:
    """The ranks of a hosts file whose backend is ring, jaccl or jaccl-ring."""
    port = request.starting_port or DEFAULT_PORT
    shared = environment_of(hostfile)
    files: dict[str, str] = {}
    if hostfile.backend == "ring":
        if len(hostfile.hosts) > 1:
            files["MLX_HOSTFILE"] = json.dumps(ring_addresses(hostfile.hosts, port, request.connections_per_ip))
    else:
        shared["MLX_JACCL_COORDINATOR"] = f"{hostfile.hosts[0].ips[0]}:{port}"
        files["MLX_IBV_DEVICES"] = json.dumps([host.rdma for host in hostfile.hosts])
        if request.has_fallback:
            files[FALLBACK] = json.dumps(ring_addresses(hostfile.hosts, port + 1, request.connections_per_ip))
    if hostfile.backend == "jaccl-ring":
        shared["MLX_JACCL_RING"] = "1"
    labels = labels_of(hostfile.hosts)
    return [
        Rank(labels[number], host, {**shared, "MLX_RANK": str(number)}, files, {} if number else secrets_of(request))
        for number, host in enumerate(hostfile.hosts)
    ]


def ring_addresses(hosts: tuple[Host, ...], port: int, connections_per_ip: int = 1) -> list[list[str]]:
    """The `ip:port` addresses of each rank; ports count up over all ranks and addresses, from `port`."""
    addresses = []
    for host in hosts:
        ips = [ip for ip in host.ips for _ in range(connections_per_ip)]
        addresses.append([f"{ip}:{port + index}" for index, ip in enumerate(ips)])
        port += len(ips)
    return addresses


def environment_of(hostfile: Hostfile) -> dict[str, str]:
    """The variables that the hosts file sets, without the harmful one."""
    pairs = (variable.split("=", 1) for variable in hostfile.envs)
    return {name: value for name, value in pairs if name != HARMFUL}


def secrets_of(request: LaunchRequest) -> dict[str, str]:
    """The variables of rank 0, which serves, that nobody else must see."""
    return {API_KEY_VARIABLE: ",".join(request.api_keys)} if request.api_keys else {}


def labels_of(hosts: tuple[Host, ...]) -> list[str]:
    """The hosts' names where they tell the ranks apart, else `rank 0`, `rank 1`, …"""
    names = [host.ssh for host in hosts]
    return names if len(set(names)) == len(names) > 1 else [f"rank {number}" for number in range(len(hosts))]
