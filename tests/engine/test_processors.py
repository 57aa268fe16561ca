"""Which processors each rank of a machine computes on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from mlxserve.engine.processors import own_processors

PROGRAM = """
import os, sys
import mlx.core as mx
mx.set_default_device(mx.cpu)
from mlxserve.config import Place
from mlxserve.engine import processors

class Time:
    now = 100.0
    def monotonic(self):
        return self.now

def passed(seconds, waiting):
    processors.time.now += seconds
    ran.append(ran[-1] + 10**9 // 2)
    waited.append(waited[-1] + int(1e9 * waiting))
    own.look()
    tell()

def tell():
    threads = [frozenset(os.sched_getaffinity(int(name))) for name in os.listdir("/proc/self/task")]
    main = frozenset(os.sched_getaffinity(0))
    print(*sorted(main), "|", *sorted(everywhere - main if everywhere - main in threads else threads[-1]))

everywhere = frozenset(os.sched_getaffinity(0))
processors.time = Time()
own = processors.OwnProcessors(Place(int(sys.argv[1]), world_size=2, backend="mpi"))
ran, waited = [0], [0]
processors._nanoseconds = lambda thread: (ran[-1], waited[-1])
tell()
passed(1.1, 0.0)
passed(1.1, 0.05)
passed(1.1, 0.3)
passed(10, 0.0)
passed(25, 0.0)
"""
PROCESSORS = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []


@pytest.mark.parametrize(
    ("processors", "ranks", "expected"),
    [
        ([0, 1], 2, [[0], [1]]),
        ([2, 3, 5, 7, 8], 2, [[2, 3], [5, 7, 8]]),
        ([0, 1, 2, 3], 3, [[0], [1], [2, 3]]),
        ([0, 1], 3, [[], [], []]),
    ],
)
def test_each_rank_has_some_and_none_has_another_ones(
    processors: list[int], ranks: int, expected: list[list[int]]
) -> None:
    assert [own_processors(processors, index, ranks) for index in range(ranks)] == expected


@pytest.mark.skipif(len(PROCESSORS) < 2, reason="not Linux, or a single processor")
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_keeps_its_own_until_others_want_them_and_takes_them_again_later(rank: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(rank)], capture_output=True, text=True)
    assert done.stderr == ""
    own = list(own_processors(PROCESSORS, rank, 2))
    apart = f"{shown([one for one in PROCESSORS if one not in own])} | {shown(own)}"
    shared = f"{shown(PROCESSORS)} | {shown(PROCESSORS)}"
    assert done.stdout.splitlines() == [apart, apart, apart, shared, shared, apart]


def shown(processors: list[int]) -> str:
    return " ".join(map(str, processors))
