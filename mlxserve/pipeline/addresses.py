"""The addresses at which ranks reach each other. Knows nothing of MLX: the node asks it too."""

from __future__ import annotations

import socket

from mlxserve.config import Place

_LOOPBACK = ("127.", "localhost", "::1", "[::1]")


def own_address(place: Place) -> str:
    """The address at which the other ranks reach this one, rank 0: the hosts file's where there is one."""
    if place.control:
        return place.control
    if place.addresses:
        return place.addresses[place.rank].rpartition(":")[0].strip("[]")
    return _named_address()


def unreachable(place: Place, timeout: float = 1.0) -> list[str]:
    """The other ranks whose ring port does not answer, as "rank 1 (192.168.5.2:32324)".

    For a group that has failed to form: a ring that still waits takes the connection for its peer's.
    """
    missing = []
    for rank, address in enumerate(place.addresses):
        if rank != place.rank and not _answers(address, timeout):
            missing.append(f"rank {rank} ({address})")
    return missing


def ranks_on_this_machine(place: Place) -> int:
    """How many ranks, this one among them, share this machine."""
    return len(ranks_here(place))


def ranks_here(place: Place) -> list[int]:
    """Which ranks, this one among them, share this machine."""
    if place.world_size > 1 and len(place.addresses) < place.world_size:
        return list(range(place.world_size)) if place.backend == "mpi" else [place.rank]
    hosts = [address.rpartition(":")[0] for address in place.addresses]
    alike = [rank for rank, host in enumerate(hosts) if host == hosts[place.rank]]
    looped = [rank for rank, host in enumerate(hosts) if host.startswith(_LOOPBACK)]
    return sorted({place.rank, *max(alike, looped, key=len)})


def _named_address() -> str:
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def _answers(address: str, timeout: float) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout).close()
    except OSError:
        return False
    return True
