"""The variables that an engine process starts with."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping

from mlxserve.config import Place
from mlxserve.engine import blas
from mlxserve.pipeline.addresses import ranks_on_this_machine

logger = logging.getLogger("mlxserve.node")

_TUNABLES = {"glibc.malloc.hugetlb": "1", "glibc.malloc.mmap_threshold": str(32 << 20)}
"""Weights in huge pages, where the system gives them to who asks: each pass reads them all, 5 to 15 % faster so. Up to
32 MiB they come from the heap, as an array that is mapped alone has small pages at both of its ends."""


def engine_environment(inherited: Mapping[str, str], place: Place) -> dict[str, str]:
    """`inherited`, less what harms and with what helps.

    MLX_METAL_FAST_SYNCH deadlocks and can wedge the GPU until a reboot (mlx 3142, 3830). On Linux OpenBLAS and huge
    pages come in; ranks that share a machine get one thread each of OpenBLAS.
    """
    variables = dict(inherited)
    if variables.pop("MLX_METAL_FAST_SYNCH", None):
        logger.warning("MLX_METAL_FAST_SYNCH is set, which can hang the GPU: it is not passed on")
    if sys.platform != "linux":
        return variables
    blas.preload(variables)
    if ranks_on_this_machine(place) > 1:
        variables.setdefault("OPENBLAS_NUM_THREADS", "1")
    variables["GLIBC_TUNABLES"] = _tuned(variables.get("GLIBC_TUNABLES", ""))
    return variables


def _tuned(inherited: str) -> str:
    """`inherited`, and what it does not name."""
    named = {item.partition("=")[0] for item in inherited.split(":")}
    added = [f"{name}={value}" for name, value in _TUNABLES.items() if name not in named]
    return ":".join([inherited, *added] if inherited else added)
