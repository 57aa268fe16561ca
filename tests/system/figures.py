"""What the processes of a server take of a machine, and whether that grows."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

from tests.system.server import Server

PAGE = os.sysconf("SC_PAGE_SIZE")
MORE_MEMORY = 0.05
MORE_FILES = MORE_THREADS = 5
FREED_BUFFERS = 600.0
"""MB that an engine may take beside what it has at first: what the work of ten seconds has freed MLX keeps for later
use, up to 1 GiB. What it holds for good is told by /health, and is not to grow."""
ROUNDING = 20.0
"""MB; /health tells hundredths of a GB."""


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
        self.arrays: list[dict[int, float]] = []
        """MB that MLX holds, by rank."""
        self._server = server
        self._at_first = {pid: figures_of(pid).memory for pid, name in self.names.items() if "engine" in name}
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
            if ranks := self._server.health().get("ranks"):
                self.arrays.append({rank["rank"]: 1000 * rank["memory_gb"] for rank in ranks})

    def growth(self) -> list[Growth | ArrayGrowth]:
        """Of each process, and of what MLX holds on each rank, from the end of the first quarter to the end."""
        early, late = _windows(self.samples)
        processes = [
            Growth(name, _typical(early, pid), _typical(late, pid), self._at_first.get(pid, 0.0))
            for pid, name in self.names.items()
        ]
        early_arrays, late_arrays = _windows(self.arrays)
        arrays = [
            ArrayGrowth(rank, median(one[rank] for one in early_arrays), median(one[rank] for one in late_arrays))
            for rank in (self.arrays[0] if self.arrays else ())
        ]
        return [*processes, *arrays]


T = TypeVar("T")


def _windows(samples: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """Those at the end of the first quarter, and at the end."""
    window = max(3, len(samples) // 10)
    quarter = len(samples) // 4
    return samples[max(0, quarter - window) : quarter + 1], samples[-window:]


@dataclass(frozen=True)
class ArrayGrowth:
    """What MLX holds on a rank, early on and at the end, in MB."""

    rank: int
    early: float
    late: float

    @property
    def problem(self) -> str:
        """What grew too much; empty if nothing did."""
        grown = self.late > (1 + MORE_MEMORY) * self.early + ROUNDING
        return f"arrays of rank {self.rank}: more memory" if grown else ""

    def __str__(self) -> str:
        return f"arrays of rank {self.rank}: {self.early:.0f} → {self.late:.0f} MB"


@dataclass(frozen=True)
class Growth:
    """A process early on and at the end; None when it had ended."""

    name: str
    early: Figures | None
    late: Figures | None
    at_first: float = 0.0
    """MB of an engine before it was asked anything; 0 for other processes."""

    @property
    def problem(self) -> str:
        """What grew too much; empty if nothing did."""
        if self.early is None or self.late is None:
            return f"{self.name} has ended"
        grown = [
            ("memory", self.late.memory > self._most_memory(self.early.memory)),
            ("files", self.late.files > self.early.files + MORE_FILES),
            ("threads", self.late.threads > self.early.threads + MORE_THREADS),
        ]
        found = [what for what, more in grown if more]
        return f"{self.name}: more {' and '.join(found)}" if found else ""

    def _most_memory(self, early: float) -> float:
        return self.at_first + FREED_BUFFERS if self.at_first else (1 + MORE_MEMORY) * early

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
