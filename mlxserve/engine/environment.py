"""The variables that an engine process starts with."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping

from mlxserve.config import Place
from mlxserve.engine import blas

logger = logging.getLogger("mlxserve.node")

_LOOPBACK = ("127.", "localhost", "::1", "[::1]")


def engine_environment(inherited: Mapping[str, str], place: Place) -> dict[str, str]:
    """`inherited`, less what harms and with what helps.

    MLX_METAL_FAST_SYNCH deadlocks and can wedge the GPU until a reboot (mlx 3142, 3830). Ranks that share a machine
    get one thread each of OpenBLAS.
    """
    variables = dict(inherited)
    if variables.pop("MLX_METAL_FAST_SYNCH", None):
        logger.warning("MLX_METAL_FAST_SYNCH is set, which can hang the GPU: it is not passed on")
    if sys.platform != "linux":
        return variables
    preloaded = variables.get("LD_PRELOAD", "")
    if "openblas" not in preloaded and (library := blas.to_preload()):
        variables["LD_PRELOAD"] = f"{library} {preloaded}".strip()
    if _shares_machine(place):
        variables.setdefault("OPENBLAS_NUM_THREADS", "1")
    return variables


def _shares_machine(place: Place) -> bool:
    if place.world_size > 1 and len(place.addresses) < place.world_size:
        return place.backend == "mpi"
    hosts = [address.rpartition(":")[0] for address in place.addresses]
    own = hosts[place.rank] if hosts else ""
    return hosts.count(own) > 1 or sum(host.startswith(_LOOPBACK) for host in hosts) > 1
