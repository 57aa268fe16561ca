"""An idle cluster uses no CPU, and answers the next request at once."""

from __future__ import annotations

import os
import time

import pytest

from mlxserve.engine.processors import own_processors
from tests.conftest import Shared
from tests.engine.test_processors import PROCESSORS
from tests.system.server import Server
from tests.system.test_chat import ask_streamed

SECONDS = 20.0
MOST = 0.02
"""Share of one core, all processes together."""


def test_without_requests_hardly_any_cpu_is_used(shared: Shared) -> None:
    servers = {ranks: shared(ranks) for ranks in (1, 2, 3)}
    warm = {ranks: seconds_of_an_answer(server) for ranks, server in servers.items()}
    before = {ranks: server.cpu_seconds() for ranks, server in servers.items()}
    time.sleep(SECONDS)  # what is measured is a stretch of time
    used = {ranks: (server.cpu_seconds() - before[ranks]) / SECONDS for ranks, server in servers.items()}
    for ranks, server in servers.items():
        print(f"{ranks} ranks: {used[ranks]:.2%} of a core; warm answer {warm[ranks]:.2f} s, answer after idling below")
        assert used[ranks] < MOST
        assert seconds_of_an_answer(server) < 4 * warm[ranks] + 2, "no group has to form anew"


@pytest.mark.skipif(len(PROCESSORS) < 2, reason="not Linux, or a single processor")
def test_two_ranks_compute_on_processors_of_their_own(shared: Shared) -> None:
    """If other tests want these, only now and then: each answer lets both look at that anew."""
    server = shared(2)
    expected = {frozenset(own_processors(PROCESSORS, rank, 2)) for rank in range(2)}
    seen: set[frozenset[int]] = set()
    deadline = time.monotonic() + 120
    while seen != expected:
        assert time.monotonic() < deadline, f"seen to compute on {seen}"
        ask_streamed(server)
        seen |= {own for engine in server.pids_of("engine") if (own := computes_alone_on(engine))}


@pytest.mark.skipif(len(PROCESSORS) < 2, reason="not Linux, or a single processor")
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_single_rank_and_ranks_that_have_not_a_processor_each_are_left_to_the_system(
    shared: Shared, ranks: int
) -> None:
    if 1 < ranks <= len(PROCESSORS):
        pytest.skip("enough processors")
    for engine in shared(ranks).pids_of("engine"):
        assert set(allowed(engine).values()) == {frozenset(PROCESSORS)}


def computes_alone_on(engine: int) -> frozenset[int]:
    """The processors that one thread has and the main thread has not; empty where they share all."""
    threads = allowed(engine)
    others = frozenset(PROCESSORS) - threads[engine]
    return others if others in threads.values() else frozenset()


def allowed(process: int) -> dict[int, frozenset[int]]:
    """The processors that each thread may run on."""
    threads = map(int, os.listdir(f"/proc/{process}/task"))
    return {thread: frozenset(os.sched_getaffinity(thread)) for thread in threads}


def seconds_of_an_answer(server: Server) -> float:
    """Of one whose prompt was read before."""
    ask_streamed(server)
    start = time.perf_counter()
    ask_streamed(server)
    return time.perf_counter() - start
