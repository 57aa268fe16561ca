"""Whatever dies or stands still, answers that have begun come to their end, and are what they would have been."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from tests.system.interrupted import BACK_SECONDS, QUESTIONS, Pieces, are_right
from tests.system.question import Answer, ask_at_once
from tests.system.ranks import Ranks

SOON = 5.0
FROZEN_SECONDS = 30.0
BY_HAND = 1.0
"""What a node needs to start that is started by hand."""


@pytest.fixture(
    scope="module",
    params=[(2,), (3,), (3, "--parallel", "tensor")],
    ids=["two ranks", "three ranks", "three ranks, tensor parallel"],
)
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Two ranks, then three; of three, what is done to rank 1 is done to the one in the middle."""
    ranks = Ranks(tmp_path_factory.mktemp("ranks"), *request.param)
    yield ranks
    ranks.close()


@pytest.mark.parametrize("victim", [0, 1])
def test_answers_go_on_when_an_engine_is_killed(ranks: Ranks, expected: list[Answer], victim: int) -> None:
    ranks[0].wait_until("healthy")
    engine = ranks.engine(victim)
    pieces = Pieces(action=lambda: os.kill(engine, signal.SIGKILL))
    are_right(expected, ask_at_once(ranks[0], QUESTIONS, pieces))
    assert engine not in ranks[victim].pids_of("engine")
    print(f"answers went on after {pieces.standstill:.1f} s")
    assert pieces.standstill < BACK_SECONDS


def test_answers_go_on_when_a_machine_stands_still_and_wakes_up(ranks: Ranks, expected: list[Answer]) -> None:
    ranks[0].wait_until("healthy")
    frozen = ranks[1].pids
    engine = ranks.engine(1)
    waking = threading.Timer(FROZEN_SECONDS, lambda: [os.kill(pid, signal.SIGCONT) for pid in frozen])

    def freeze() -> None:
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        waking.start()

    pieces = Pieces(action=freeze)
    are_right(expected, ask_at_once(ranks[0], QUESTIONS, pieces))
    assert engine not in ranks[1].pids_of("engine")
    assert ranks[1].process.poll() is None
    print(f"answers went on {pieces.standstill - FROZEN_SECONDS:.1f} s after it woke up")
    assert FROZEN_SECONDS <= pieces.standstill < FROZEN_SECONDS + BACK_SECONDS


def test_answers_go_on_when_a_workers_node_is_killed_and_started_again(ranks: Ranks, expected: list[Answer]) -> None:
    ranks[0].wait_until("healthy")
    killed = ranks[1]
    pieces = Pieces(action=lambda: ranks.replace(1))
    are_right(expected, ask_at_once(ranks[0], QUESTIONS, pieces))
    killed.wait_until_gone(SOON)
    print(f"answers went on after {pieces.standstill:.1f} s")
    assert pieces.standstill < BACK_SECONDS + BY_HAND
