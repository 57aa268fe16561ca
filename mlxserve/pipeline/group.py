"""The distributed group that the ranks form, and what each must know of the others to begin with."""

from __future__ import annotations

import socket
from typing import cast

import mlx.core as mx

from mlxserve.config import Place
from mlxserve.errors import FormationError


def form_group(place: Place) -> mx.distributed.Group | None:
    """Join the group; None where there is but one rank. Once per process; may block until every rank is there.

    Raises FormationError if MLX cannot form it or it is not the one that was asked for.
    """
    if place.world_size == 1:
        return None
    try:
        group = mx.distributed.init(strict=True, backend=place.backend)
    except (RuntimeError, ValueError) as error:
        raise FormationError(f"rank {place.rank} could not join the group ({place.backend}): {error}") from error
    if (group.rank(), group.size()) != (place.rank, place.world_size):
        raise FormationError(
            f"MLX formed a group of {group.size()} with this as rank {group.rank()}, "
            f"but rank {place.rank} of {place.world_size} was asked for."
        )
    return group


def share_bytes(group: mx.distributed.Group, message: bytes | None, size: int) -> bytes:
    """Give `message` of rank 0, at most `size` bytes, to all ranks; the others pass None."""
    contribution = (message or b"").ljust(size, b"\0")
    words = mx.array(list(contribution), mx.uint8)
    total = mx.distributed.all_sum(words.view(mx.uint64), group=group, stream=mx.cpu)
    mx.eval(total)
    return bytes(cast("list[int]", total.view(mx.uint8).tolist())).rstrip(b"\0")


def own_address(place: Place) -> str:
    """The address at which the other ranks reach this one: that of the hosts file where there is one."""
    if place.addresses:
        return place.addresses[place.rank].rpartition(":")[0].strip("[]")
    return _named_address()


def unreachable(place: Place, timeout: float = 1.0) -> list[str]:
    """The other ranks whose ring port does not answer, as "rank 1 (192.168.5.2:32324)".

    For a group that has failed to form: a rank still waiting takes the connection for its peer's.
    """
    missing = []
    for rank, address in enumerate(place.addresses):
        if rank != place.rank and not _answers(address, timeout):
            missing.append(f"rank {rank} ({address})")
    return missing


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
