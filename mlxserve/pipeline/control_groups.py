"""What Linux's control groups leave a process: a container's memory limit, past which the kernel kills.

The files of both versions are described in the kernel's admin guide, under "Control Group v2" and "Memory Resource
Controller".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class _Version:
    limit: str
    usage: str
    reclaimable: tuple[str, str]
    """Fields of memory.stat: files in memory, weights once read among them, which the kernel lets go of first."""


_V1 = _Version("memory.limit_in_bytes", "memory.usage_in_bytes", ("total_inactive_file", "total_active_file"))
_V2 = _Version("memory.max", "memory.current", ("inactive_file", "active_file"))


def room_in_groups(membership: Path, root: Path) -> list[int]:
    """Bytes that each group with a limit leaves, of those that the process with this /proc/PID/cgroup is in.

    Groups are folders under `root`; in a container those above its own are not to be seen.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    rooms = [_room(folder, version) for line in lines for folder, version in _groups(line, root)]
    return [room for room in rooms if room is not None]


def _groups(line: str, root: Path) -> Iterator[tuple[Path, _Version]]:
    """The group that `line` names, and all that it is in."""
    _, controllers, path = line.split(":", 2)
    if controllers and "memory" not in controllers.split(","):
        return
    top, version = (root / "memory", _V1) if controllers else (root, _V2)
    group = PurePosixPath(path.lstrip("/"))
    for name in (group, *group.parents):
        yield top / name, version


def _room(folder: Path, version: _Version) -> int | None:
    """None where there is no such group or it has no limit."""
    try:
        limit = (folder / version.limit).read_text().strip()
        usage = int((folder / version.usage).read_text())
        stat = (folder / "memory.stat").read_text()
    except OSError:
        return None
    if limit == "max":
        return None
    fields = dict(line.split(" ", 1) for line in stat.splitlines())
    return max(0, int(limit) - usage + sum(int(fields.get(name, "0")) for name in version.reclaimable))
