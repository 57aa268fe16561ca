"""The memory that is free for caches once a rank's layers are loaded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import mlx.core as mx

from mlxserve.config import Place
from mlxserve.pipeline.addresses import ranks_on_this_machine
from mlxserve.pipeline.control_groups import room_in_groups


def usable_bytes() -> int:
    """Bytes that programs may fill from now on; on macOS all that the GPU should be given, taken or not."""
    if sys.platform == "darwin":
        return int(mx.device_info()["max_recommended_working_set_size"])
    available = available_bytes(Path("/proc/meminfo").read_text())
    return min([available, *room_in_groups(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])


def room_bytes() -> int:
    """The same without what this process has taken, on macOS too: room for another model beside one."""
    return usable_bytes() - (mx.get_active_memory() if sys.platform == "darwin" else 0)


def total_bytes() -> int:
    """All memory that this machine has, bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def free_bytes(place: Place, at_first: int) -> int:
    """Bytes that this rank, now loaded, may fill with caches; `at_first` were usable before any rank had loaded."""
    return share(at_first, usable_bytes(), mx.get_active_memory(), ranks_on_this_machine(place))


def within(limit: int, size: int) -> int:
    """What is left of `size` bytes where this process may take no more than `limit` in all; 0: there is no limit."""
    return min(size, max(1, limit - mx.get_active_memory())) if limit else size


def share(at_first: int, now: int, active: int, sharing: int) -> int:
    """What one of `sharing` ranks that holds `active` bytes has left of a machine.

    It goes by what was usable `at_first`, since ranks that have yet to load leave too much `now`.
    """
    return max(0, min(at_first // sharing - active, now // sharing))


def available_bytes(meminfo: str) -> int:
    """What Linux calls available in /proc/meminfo."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024
