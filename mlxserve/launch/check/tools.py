"""What the system's own tools say of the machine, and how it is read."""

from __future__ import annotations

import re
import subprocess

_SECONDS = 5.0


def said(*command: str) -> str | None:
    """What `command` prints; None where it is not there, fails or takes too long."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def interfaces(listing: str) -> tuple[str, ...]:
    """The IPv4 addresses but loopback, as "192.168.5.1 (en5)", from `ifconfig` or `ip -4 addr`."""
    found, name = [], ""
    for line in listing.splitlines():
        if head := re.match(r"(?:\d+: )?([\w.-]+)(?:@\w+)?: ", line):
            name = head[1]
        elif (address := re.match(r"\s+inet (?:addr:)?([\d.]+)", line)) and not address[1].startswith("127."):
            found.append(f"{address[1]} ({name})")
    return tuple(found)


def available_memory(vm_stat: str) -> int:
    """Bytes that programs can still have, from macOS's `vm_stat`."""
    size = re.search(r"page size of (\d+) bytes", vm_stat)
    kinds = ("free", "inactive", "speculative", "purgeable")
    pages = [re.search(rf"^Pages {kind}:\s+(\d+)", vm_stat, re.MULTILINE) for kind in kinds]
    return sum(int(count[1]) for count in pages if count) * int(size[1]) if size else 0


def sleep_minutes(pmset: str) -> int:
    """Idle minutes after which the machine sleeps, from macOS's `pmset -g`; 0: never."""
    setting = re.search(r"^\s*sleep\s+(\d+)", pmset, re.MULTILINE)
    return int(setting[1]) if setting else 0


def rdma_devices(listing: str) -> tuple[str, ...]:
    """The names from `ibv_devices`, a table of two columns under a head and a ruler."""
    rows = [line.split() for line in listing.splitlines()]
    return tuple(row[0] for row in rows if len(row) == 2 and re.fullmatch(r"[0-9a-f]{16}", row[1]))
