"""What a host is and has, as far as it can tell by itself. Nothing here loads MLX, so that it is quick."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path

from huggingface_hub import constants

from mlxserve.bundle import build_id
from mlxserve.launch.check.messages import Disk, Facts, Question, System
from mlxserve.launch.check.model import find
from mlxserve.launch.check.tools import available_memory, interfaces, rdma_devices, said, sleep_minutes
from mlxserve.launch.command import is_own_address
from mlxserve.launch.ranks import HARMFUL
from mlxserve.models.cache import cache_folder
from mlxserve.versions import wheel_platforms

IS_MAC = sys.platform == "darwin"


def facts(question: Question) -> Facts:
    """All but the ports."""
    model = find(question.model) if question.model else None
    disks = [_disk(cache_folder())]
    if model and model.kind == "hub":
        disks.append(_disk(Path(constants.HF_HUB_CACHE)))
    return Facts(
        build_id(),
        _system(),
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        _free_memory(),
        disks=tuple(disks),
        interfaces=interfaces(said(*(("/sbin/ifconfig",) if IS_MAC else ("ip", "-4", "addr"))) or ""),
        strange_addresses=tuple(ip for ip in question.addresses if not is_own_address(ip)),
        harmful=os.environ.get(HARMFUL, ""),
        rdma=_rdma() if question.rdma else None,
        sleep_minutes=sleep_minutes(said("/usr/bin/pmset", "-g") or "") if IS_MAC else 0,
        model=model,
    )


def _system() -> System:
    machine = platform.machine()
    if IS_MAC:
        version, build = (said("/usr/bin/sw_vers", which) or "" for which in ("-productVersion", "-buildVersion"))
        return System("macOS", version.strip(), build.strip(), machine, oldest_macos(wheel_platforms("mlx-metal")))
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    version = f"{release.get('ID', '')} {release.get('VERSION_ID', '')}".strip()
    return System(platform.system(), version, platform.release(), machine)


def oldest_macos(platforms: list[str]) -> str:
    """The oldest macOS for MLX's wheel of these platforms; those for macOS 26 need 26.2, for RDMA's sake."""
    tags = [re.fullmatch(r"macosx_(\d+)_(\d+)_arm64", tag) for tag in platforms]
    versions = ["26.2" if tag[1] == "26" else f"{tag[1]}.{tag[2]}" for tag in tags if tag]
    return versions[0] if versions else ""


def _free_memory() -> int:
    if IS_MAC:
        return available_memory(said("/usr/bin/vm_stat") or "")
    available = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    return int(available[1]) * 1024 if available else 0


def _disk(folder: Path) -> Disk:
    there = next(path for path in (folder, *folder.parents) if os.path.isdir(path))
    return Disk(str(folder), shutil.disk_usage(there).free, os.access(there, os.W_OK))


def _rdma() -> tuple[str, ...] | None:
    listing = said("ibv_devices")
    return None if listing is None else rdma_devices(listing)
