"""Where the nodes meet: at rank 0's address, one port below those of MLX's ring."""

from __future__ import annotations

from mlxserve.config import Place


def rendezvous_address(place: Place) -> tuple[str, int]:
    """Host and port, the same by every rank's place."""
    host, _, port = place.addresses[0].rpartition(":")
    return place.control or host.strip("[]"), int(port) - 1
