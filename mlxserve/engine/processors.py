"""Ranks that share a Linux machine: each computes on processors of its own.

The main thread hands MLX's thread, which computes, one operation after another, and sleeps where ten are waiting. After
a pause, while other ranks compute, Linux tends to wake both on the same processor: a virtual machine takes a sleeping
one for busy. Then they take turns for the whole pass, and building the graph takes its time from computing.
"""

from __future__ import annotations

import logging
import math
import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx

from mlxserve.config import Place
from mlxserve.pipeline.addresses import ranks_here

logger = logging.getLogger("mlxserve.engine")

_THREADS = Path("/proc/self/task")
_SIDE = 512
"""Of two square matrices, whose product takes MLX's thread some milliseconds."""
_LOOK_SECONDS = 1.0
_MOST_WAITING = 0.2
"""Share of its time for which MLX's thread may be kept waiting for its processors; more: others want them, too. Main
threads alone, while all ranks read prompts, were seen to take 0.12."""
_SOME_SECONDS = 0.1
"""Less waiting than this says nothing: a server that starts has much to do besides."""
_SHARED_SECONDS = 30.0
"""For so long the system then decides alone."""


class OwnProcessors:
    """This rank's, on which MLX's thread runs, while the main thread runs on the others.

    Belongs to the main thread. They are given up for a while when others keep MLX's thread from them. Nothing happens
    where no other rank shares the machine, or fewer processors are there than ranks, or a GPU computes.
    """

    def __init__(self, place: Place) -> None:
        self._next = math.inf
        self._kept = False
        self._thread = self._ran = self._waited = 0
        ranks = ranks_here(place)
        if len(ranks) == 1 or sys.platform != "linux" or mx.default_device() != mx.Device(mx.cpu):
            return
        self._all = sorted(os.sched_getaffinity(0))
        self._own = own_processors(self._all, ranks.index(place.rank), len(ranks))
        if self._own:
            try:
                self._thread = _computing_thread()
                self._take()
            except OSError as error:
                self._give_up(error)

    def look(self) -> None:
        """Whether anything has to change. To be called after each step; it mostly does nothing."""
        if time.monotonic() < self._next:
            return
        try:
            if not self._kept:
                self._take()
            elif self._contended():
                self._share()
        except OSError as error:
            self._give_up(error)

    def _take(self) -> None:
        os.sched_setaffinity(self._thread, self._own)
        os.sched_setaffinity(0, set(self._all) - set(self._own))
        self._kept = True
        self._contended()

    def _share(self) -> None:
        os.sched_setaffinity(self._thread, self._all)
        os.sched_setaffinity(0, self._all)
        self._kept = False
        self._next = time.monotonic() + _SHARED_SECONDS

    def _contended(self) -> bool:
        """Whether MLX's thread has been kept waiting since this was asked last."""
        before = self._ran, self._waited
        self._ran, self._waited = _nanoseconds(self._thread)
        self._next = time.monotonic() + _LOOK_SECONDS
        ran, waited = self._ran - before[0], self._waited - before[1]
        return waited > max(1e9 * _SOME_SECONDS, _MOST_WAITING * (ran + waited))

    def _give_up(self, error: OSError) -> None:
        self._next = math.inf
        logger.info("processors are shared with the other ranks: %s", error)


def own_processors(processors: Sequence[int], index: int, ranks: int) -> Sequence[int]:
    """Of `processors` those of the `index`-th of so many `ranks`; empty where there are too few for all."""
    if (count := len(processors)) < ranks:
        return []
    return processors[count * index // ranks : count * (index + 1) // ranks]


def _computing_thread() -> int:
    """The thread that MLX computes in: the one that is seen to. Raises OSError where Linux does not tell."""
    matrix = mx.ones((_SIDE, _SIDE))
    mx.eval(matrix)
    others = {int(path.name) for path in _THREADS.iterdir()} - {threading.get_native_id()}
    before = {thread: _nanoseconds(thread)[0] for thread in others}
    mx.eval(matrix @ matrix)
    return max(others, key=lambda thread: _nanoseconds(thread)[0] - before[thread])


def _nanoseconds(thread: int) -> tuple[int, int]:
    """For how long it has run, and waited for a processor."""
    ran, waited, _ = map(int, (_THREADS / str(thread) / "schedstat").read_text().split())
    return ran, waited
