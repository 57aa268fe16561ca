"""Whatever dies or stands still, answers that have begun come to their end, and are what they would have been."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.interrupted import BACK_SECONDS, QUESTIONS, Pieces, are_right
from tests.system.question import Answer, ask_at_once
from tests.system.server import BareRank, Server, free_port, write_hostfile

Own = Callable[[Server], Server]
SOON = 5.0
FROZEN_SECONDS = 30.0
BY_HAND = 1.0
"""What a node needs to start that is started by hand."""


def _ranks(folder: Path, number: int) -> Iterator[list[BareRank]]:
    hostfile, port = write_hostfile(folder, number), free_port()
    ranks = [BareRank(rank, hostfile, port) for rank in range(number)]
    ranks[0].wait_until("healthy")
    yield ranks
    for rank in ranks:
        rank.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[BareRank]]:
    """Two ranks, each with a node of its own."""
    yield from _ranks(tmp_path_factory.mktemp("pair"), 2)


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[BareRank]]:
    """Three ranks."""
    yield from _ranks(tmp_path_factory.mktemp("trio"), 3)


def assert_survives_the_loss_of_an_engine(ranks: list[BareRank], victim: int, expected: list[Answer]) -> None:
    ranks[0].wait_until("healthy")
    (engine,) = ranks[victim].pids_of("engine")
    pieces = Pieces(action=lambda: os.kill(engine, signal.SIGKILL))
    are_right(expected, ask_at_once(ranks[0], QUESTIONS, pieces))
    assert engine not in ranks[victim].pids_of("engine")
    print(f"answers went on after {pieces.standstill:.1f} s")
    assert pieces.standstill < BACK_SECONDS


@pytest.mark.parametrize("victim", [0, 1])
def test_answers_go_on_when_an_engine_is_killed(pair: list[BareRank], expected: list[Answer], victim: int) -> None:
    assert_survives_the_loss_of_an_engine(pair, victim, expected)


@pytest.mark.parametrize("victim", [0, 1])
def test_answers_go_on_when_the_first_or_the_middle_engine_of_three_is_killed(
    trio: list[BareRank], expected: list[Answer], victim: int
) -> None:
    assert_survives_the_loss_of_an_engine(trio, victim, expected)


def test_answers_go_on_when_a_machine_stands_still_and_wakes_up(pair: list[BareRank], expected: list[Answer]) -> None:
    pair[0].wait_until("healthy")
    frozen = pair[1].pids
    (engine,) = pair[1].pids_of("engine")
    waking = threading.Timer(FROZEN_SECONDS, lambda: [os.kill(pid, signal.SIGCONT) for pid in frozen])

    def freeze() -> None:
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        waking.start()

    pieces = Pieces(action=freeze)
    are_right(expected, ask_at_once(pair[0], QUESTIONS, pieces))
    assert engine not in pair[1].pids_of("engine")
    assert pair[1].process.poll() is None
    print(f"answers went on {pieces.standstill - FROZEN_SECONDS:.1f} s after it woke up")
    assert FROZEN_SECONDS <= pieces.standstill < FROZEN_SECONDS + BACK_SECONDS


def test_answers_go_on_when_a_workers_node_is_killed_and_started_again(
    own: Own, tmp_path: Path, expected: list[Answer]
) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    first, worker = (own(BareRank(rank, hostfile, port)) for rank in range(2))
    first.wait_until("healthy")

    def replace() -> None:
        worker.process.kill()
        own(BareRank(1, hostfile, port))

    pieces = Pieces(action=replace)
    are_right(expected, ask_at_once(first, QUESTIONS, pieces))
    worker.wait_until_gone(SOON)
    print(f"answers went on after {pieces.standstill:.1f} s")
    assert pieces.standstill < BACK_SECONDS + BY_HAND


def test_a_rank_that_is_lost_again_and_again_is_soon_back_each_time(trio: list[BareRank]) -> None:
    trio[0].wait_until("healthy")
    for time_lost in range(3):
        (engine,) = trio[1 + time_lost % 2].pids_of("engine")
        os.kill(engine, signal.SIGKILL)
        killed_at = time.monotonic()
        trio[0].wait_until("recovering")
        trio[0].wait_until("healthy")
        took = time.monotonic() - killed_at
        print(f"back after {took:.1f} s")
        assert took < BACK_SECONDS, trio[0].output
