"""Ranks that share a Linux machine: each computes on processors of its own.

The main thread hands MLX's thread, which computes, one operation after another, and sleeps where ten are waiting. After
a pause, while other ranks compute, Linux tends to wake both on the same processor: a virtual machine takes a sleeping
one for busy. Then they take turns for the whole pass, and building the graph takes its time from computing.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx

from mlxserve.config import Place
from mlxserve.pipeline.addresses import ranks_here

logger = logging.getLogger("mlxserve.engine")

_THREADS = Path("/proc/self/task")
_SIDE = 512
"""Of two square matrices, whose product takes MLX's thread some milliseconds."""


def take_own_processors(place: Place) -> None:
    """Give MLX's thread this rank's processors and the main thread, which this is, the others.

    Without effect where no other rank shares the machine, or fewer processors are there than ranks, or a GPU computes.
    """
    ranks = ranks_here(place)
    if len(ranks) == 1 or sys.platform != "linux" or mx.default_device() != mx.Device(mx.cpu):
        return
    processors = sorted(os.sched_getaffinity(0))
    if own := own_processors(processors, ranks.index(place.rank), len(ranks)):
        try:
            os.sched_setaffinity(_computing_thread(), own)
            os.sched_setaffinity(0, set(processors) - set(own))
        except OSError as error:
            logger.info("processors are shared with the other ranks: %s", error)


def own_processors(processors: Sequence[int], index: int, ranks: int) -> Sequence[int]:
    """Of `processors` those of the `index`-th of so many `ranks`; empty where there are too few for all."""
    if (count := len(processors)) < ranks:
        return []
    return processors[count * index // ranks : count * (index + 1) // ranks]


def _computing_thread() -> int:
    """The thread that MLX computes in: the one that is seen to. Raises OSError where Linux does not tell."""
    own = threading.get_native_id()
    before = {int(path.name): _nanoseconds(path) for path in _THREADS.iterdir() if int(path.name) != own}
    matrix = mx.ones((_SIDE, _SIDE))
    mx.eval(matrix @ matrix)
    return max(before, key=lambda thread: _nanoseconds(_THREADS / str(thread)) - before[thread])


def _nanoseconds(thread: Path) -> int:
    """How long it has run."""
    return int((thread / "schedstat").read_text().split()[0])
