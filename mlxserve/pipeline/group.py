"""The distributed group that the ranks form, and what each must know of the others to begin with."""

from __future__ import annotations

from typing import cast

import mlx.core as mx

from mlxserve.config import Place
from mlxserve.errors import FormationError
from mlxserve.pipeline.addresses import unreachable


def form_group(place: Place) -> mx.distributed.Group | None:
    """Join the group; None where there is but one rank. Once per process; may block until every rank is there.

    Raises FormationError if MLX cannot form it or it is not the one that was asked for.
    """
    if place.world_size == 1:
        return None
    try:
        group = mx.distributed.init(strict=True, backend=place.backend)
    except (RuntimeError, ValueError) as error:
        missing = ", ".join(unreachable(place))
        who = f"no answer from {missing}" if missing else str(error)
        raise FormationError(f"rank {place.rank} could not join the group ({place.backend}): {who}") from error
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
