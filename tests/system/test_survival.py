"""Whatever dies, answers that have begun come to their end, and are what they would have been."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.question import After, Answer, Question, ask_at_once, is_right
from tests.system.server import BareRank, Server, free_port, write_hostfile

TOPICS = ["a lighthouse", "the sea", "a violin", "bread"]
QUESTIONS = [
    *(Question(f"Tell me about {topic}.", 48) for topic in TOPICS),
    *(Question(f"Tell me about {topic}.", 48, temperature=0.8, seed=7) for topic in TOPICS),
]
Own = Callable[[Server], Server]
SOON = 5.0
FROZEN_SECONDS = 7.0
"""Longer than --silence-timeout, shorter than what its own node waits."""
BACK_SECONDS = 15.0
"""From the loss of a rank until new requests are answered."""
BEGUN = 40
"""Pieces of all answers together, after which something dies: about five of each."""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[BareRank]]:
    """Two ranks, each with a node of its own."""
    hostfile, port = write_hostfile(tmp_path_factory.mktemp("ring"), 2), free_port()
    both = [BareRank(rank, hostfile, port) for rank in range(2)]
    both[0].wait_until("healthy")
    yield both
    for rank in both:
        rank.close()


@pytest.fixture(scope="module")
def expected(plain: Server) -> list[Answer]:
    """The answers when nothing happens."""
    return ask_at_once(plain, QUESTIONS)


@pytest.mark.parametrize("victim", [0, 1])
def test_answers_go_on_when_an_engine_is_killed(ranks: list[BareRank], expected: list[Answer], victim: int) -> None:
    ranks[0].wait_until("healthy")
    (engine,) = ranks[victim].pids_of("engine")
    answers = ask_at_once(ranks[0], QUESTIONS, After(BEGUN, lambda: os.kill(engine, signal.SIGKILL)))
    assert engine not in ranks[victim].pids_of("engine")
    are_right(expected, answers)


def test_answers_go_on_when_a_worker_is_frozen_and_wakes_up(ranks: list[BareRank], expected: list[Answer]) -> None:
    ranks[0].wait_until("healthy")
    (engine,) = ranks[1].pids_of("engine")
    waking = threading.Timer(FROZEN_SECONDS, os.kill, (engine, signal.SIGCONT))

    def freeze() -> None:
        os.kill(engine, signal.SIGSTOP)
        waking.start()

    are_right(expected, ask_at_once(ranks[0], QUESTIONS, After(BEGUN, freeze)))
    assert engine not in ranks[1].pids_of("engine")


def test_answers_go_on_when_a_workers_node_is_killed_and_started_again(
    own: Own, tmp_path: Path, expected: list[Answer]
) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    first, worker = (own(BareRank(rank, hostfile, port)) for rank in range(2))
    first.wait_until("healthy")

    def replace() -> None:
        worker.process.kill()
        own(BareRank(1, hostfile, port))

    are_right(expected, ask_at_once(first, QUESTIONS, After(BEGUN, replace)))
    worker.wait_until_gone(SOON)


def test_a_rank_that_is_lost_again_and_again_is_soon_back_each_time(own: Own, tmp_path: Path) -> None:
    hostfile, port = write_hostfile(tmp_path, 3), free_port()
    trio = [own(BareRank(rank, hostfile, port)) for rank in range(3)]
    trio[0].wait_until("healthy")
    for time_lost in range(6):
        (engine,) = trio[1 + time_lost % 2].pids_of("engine")
        os.kill(engine, signal.SIGKILL)
        killed_at = time.monotonic()
        trio[0].wait_until("recovering")
        trio[0].wait_until("healthy")
        took = time.monotonic() - killed_at
        print(f"back after {took:.1f} s")
        assert took < BACK_SECONDS, trio[0].output


def are_right(expected: list[Answer], answers: list[Answer]) -> None:
    for question, whole, answer in zip(QUESTIONS, expected, answers, strict=True):
        assert is_right(question, whole, answer), (question, whole.text, answer.text)
        assert answer.usage.completion_tokens == whole.usage.completion_tokens
