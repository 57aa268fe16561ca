"""Who this rank is and what it runs."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import mlx.core as mx

from mlxserve import __version__
from mlxserve.bundle import build_id
from mlxserve.config import Place
from mlxserve.pipeline.link import Hello


def introduce(place: Place) -> Hello:
    """This process's first word to rank 0."""
    return Hello(place.rank, platform.node(), os.getpid(), device_name(), versions(), place.capacity)


def versions() -> dict[str, str]:
    """What must be equal on all ranks: versions first, which say more than the build that they belong to."""
    installed = {name: importlib.metadata.version(name) for name in ("mlx", "mlx-lm")}
    return {"mlxserve": __version__, **installed, "mlxserve build": build_id()}


def device_name() -> str:
    """What MLX computes on, for people: "gpu (Apple M4)"."""
    device = mx.default_device()
    info = mx.device_info()
    kind = "gpu" if device == mx.Device(mx.gpu) else "cpu"
    return f"{kind} ({info.get('device_name', platform.machine())})"
