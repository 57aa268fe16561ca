"""The variables that an engine process starts with."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping

from mlxserve.config import Place
from mlxserve.engine import blas
from mlxserve.pipeline.addresses import ranks_on_this_machine

logger = logging.getLogger("mlxserve.node")


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
    if ranks_on_this_machine(place) > 1:
        variables.setdefault("OPENBLAS_NUM_THREADS", "1")
    return variables
