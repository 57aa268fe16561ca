"""The memory that is free for caches once a rank's layers are loaded."""

from __future__ import annotations

import sys
from pathlib import Path

import mlx.core as mx

from mlxserve.config import Place
from mlxserve.pipeline.addresses import ranks_on_this_machine


def free_bytes(place: Place) -> int:
    """Bytes that this rank may fill with caches without the machine running short."""
    sharing = ranks_on_this_machine(place)
    if sys.platform == "darwin":
        recommended = int(mx.device_info()["max_recommended_working_set_size"])
        return share_of_gpu(recommended, mx.get_active_memory(), sharing)
    return share_of_available(Path("/proc/meminfo").read_text(), sharing)


def share_of_gpu(recommended: int, active: int, sharing: int) -> int:
    """Of the `recommended` working set, what one of `sharing` ranks that holds `active` bytes has left."""
    return max(0, recommended // sharing - active)


def share_of_available(meminfo: str, sharing: int) -> int:
    """One rank's share of what Linux calls available, which is less what all ranks have loaded."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024 // sharing
