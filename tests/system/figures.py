"""What the processes of a server take of a machine, and whether that grows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.system.server import Server

PAGE = os.sysconf("SC_PAGE_SIZE")
MORE_MEMORY = 0.05
MORE_FILES = MORE_THREADS = 5


@dataclass(frozen=True)
class Figures:
    """One process at one time."""

    memory: float
    """Resident, in MB."""
    files: float
    threads: float


def figures_of(pid: int) -> Figures:
    """Raises OSError when it has ended."""
    process = Path(f"/proc/{pid}")
    resident = int((process / "statm").read_text().split()[1]) * PAGE / 1e6
    if not resident:
        raise ProcessLookupError(pid)
    return Figures(resident, len(os.listdir(process / "fd")), len(os.listdir(process / "task")))


def open_files(server: Server) -> dict[int, float]:
    """Of each of its processes."""
    return {pid: figures_of(pid).files for pid in server.pids}


class Sampler:
    """Looks at all processes of a server every few seconds, in a thread of its own."""

    def __init__(self, server: Server, seconds: float) -> None:
        self.samples: list[dict[int, Figures]] = []
        self.names = {pid: _name(pid) for pid in server.pids}
        self._seconds = seconds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due += self._seconds
            sample = {}
            for pid in self.names:
                try:
                    sample[pid] = figures_of(pid)
                except OSError:
                    continue
            self.samples.append(sample)

    def growth(self) -> list[Growth]:
        """Of each process, from the end of the first quarter to the end."""
        window = max(3, len(self.samples) // 10)
        quarter = len(self.samples) // 4
        early, late = self.samples[max(0, quarter - window) : quarter + 1], self.samples[-window:]
        return [Growth(name, _typical(early, pid), _typical(late, pid)) for pid, name in self.names.items()]


@dataclass(frozen=True)
class Growth:
    """A process early on and at the end; None when it had ended."""

    name: str
    early: Figures | None
    late: Figures | None

    @property
    def problem(self) -> str:
        """What grew too much; empty if nothing did."""
        if self.early is None or self.late is None:
            return f"{self.name} has ended"
        grown = [
            ("memory", self.late.memory > (1 + MORE_MEMORY) * self.early.memory),
            ("files", self.late.files > self.early.files + MORE_FILES),
            ("threads", self.late.threads > self.early.threads + MORE_THREADS),
        ]
        found = [what for what, more in grown if more]
        return f"{self.name}: more {' and '.join(found)}" if found else ""

    def __str__(self) -> str:
        if self.early is None or self.late is None:
            return self.problem
        early, late = self.early, self.late
        share = 100 * (late.memory / early.memory - 1)
        return (
            f"{self.name}: memory {early.memory:.1f} → {late.memory:.1f} MB ({share:+.1f} %), "
            f"files {early.files:g} → {late.files:g}, threads {early.threads:g} → {late.threads:g}"
        )


def _typical(samples: Sequence[dict[int, Figures]], pid: int) -> Figures | None:
    if not all(pid in sample for sample in samples):
        return None
    seen = [sample[pid] for sample in samples]
    return Figures(
        median(one.memory for one in seen), median(one.files for one in seen), median(one.threads for one in seen)
    )


def _name(pid: int) -> str:
    """Its number, and the last words of its command line that are not flags."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    environment = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    ranks = [entry.partition("=")[2] for entry in environment if entry.startswith("MLX_RANK=")]
    engine = any("spawn_main" in word or "engine" in word for word in words)
    kind = "engine" if engine else "node" if ranks else "launcher"
    return f"{kind}{f' of rank {ranks[0]}' if ranks else ''} ({pid})"
