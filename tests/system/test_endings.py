"""However a server is ended, nothing of it stays; and when an engine dies, the node starts another."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from openai.types.chat import ChatCompletionChunk

from tests.ports import free_port
from tests.system.question import After, Question, ask_at_once
from tests.system.server import (
    MLX_LAUNCH,
    MLXSERVE,
    BareRank,
    Server,
    start,
    write_hostfile,
)
from tests.system.test_chat import QUESTION, ask_streamed

Own = Callable[[Server], Server]
SOON = 5.0
"""Seconds within which everything must be over."""


@contextmanager
def begun_answer(server: Server) -> Iterator[openai.Stream[ChatCompletionChunk]]:
    """A long answer that has begun to come."""
    with server.client().chat.completions.create(
        model="demo", messages=QUESTION, temperature=1, max_tokens=4000, stream=True
    ) as chunks:
        next(iter(chunks))
        yield chunks


@pytest.mark.parametrize(("ranks", "number"), [(1, signal.SIGTERM), (2, signal.SIGINT)])
def test_a_signal_ends_everything_with_exit_code_0(own: Own, ranks: int, number: signal.Signals) -> None:
    server = own(start(ranks))
    server.wait_until("healthy")
    server.process.send_signal(number)
    assert server.exit_code(SOON) == 0
    server.wait_until_gone(0.5)


def test_ctrl_c_in_the_middle_of_an_answer_ends_it_with_an_error_and_then_everything(own: Own) -> None:
    server = own(start(2))
    server.wait_until("healthy")
    with begun_answer(server) as chunks:
        server.process.send_signal(signal.SIGINT)
        with pytest.raises(openai.APIError, match="shutting down"):
            list(chunks)
    assert server.exit_code(SOON) == 0
    server.wait_until_gone(0.5)


def test_ctrl_c_while_the_ranks_still_wait_for_each_other_ends_everything(own: Own, tmp_path: Path) -> None:
    rank = own(BareRank(0, write_hostfile(tmp_path, 2), free_port()))
    rank.wait_until("loading")
    rank.process.send_signal(signal.SIGINT)
    assert rank.exit_code(SOON) == 0
    rank.wait_until_gone(0.5)


def test_a_signal_to_an_idle_worker_ends_all_ranks(own: Own, tmp_path: Path) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    ranks = [own(BareRank(rank, hostfile, port)) for rank in range(2)]
    ranks[0].wait_until("healthy")
    ranks[1].process.send_signal(signal.SIGTERM)
    assert [rank.exit_code(SOON) for rank in ranks] == [0, 0]
    for rank in ranks:
        rank.wait_until_gone(0.5)


@pytest.mark.parametrize("signalled", [0, 1])
def test_a_signal_to_any_rank_in_the_middle_of_an_answer_ends_all_ranks(
    own: Own, tmp_path: Path, signalled: int
) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    ranks = [own(BareRank(rank, hostfile, port)) for rank in range(2)]
    ranks[0].wait_until("healthy")
    with begun_answer(ranks[0]) as chunks:
        ranks[signalled].process.send_signal(signal.SIGINT)
        with pytest.raises(openai.APIError):
            list(chunks)
    assert [rank.exit_code(SOON) for rank in ranks] == [0, 0]
    for rank in ranks:
        rank.wait_until_gone(0.5)


STREAMS = [Question(f"Tell me about {topic}.", 20) for topic in ("the sea", "bread", "a violin", "snow")] * 2
PATIENTLY = ["--drain-seconds", "120"]
"""However slow the machine is just now: that answers are ended after the drain time is another test's."""


def test_sigterm_lets_the_answers_that_have_begun_come_to_their_end(own: Own) -> None:
    server = own(start(2, *PATIENTLY))
    server.wait_until("healthy")
    begun = After(2 * len(STREAMS), lambda: server.process.send_signal(signal.SIGTERM))
    answers = ask_at_once(server, STREAMS, begun)
    assert [answer.usage.completion_tokens for answer in answers] == [20] * len(STREAMS)
    assert server.exit_code(SOON) == 0
    server.wait_until_gone(0.5)


@pytest.mark.parametrize("signalled", [0, 1])
def test_sigterm_to_any_rank_lets_answers_come_to_their_end(own: Own, tmp_path: Path, signalled: int) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    ranks = [own(BareRank(rank, hostfile, port, *PATIENTLY)) for rank in range(2)]
    ranks[0].wait_until("healthy")
    begun = After(2 * len(STREAMS), lambda: ranks[signalled].process.send_signal(signal.SIGTERM))
    answers = ask_at_once(ranks[0], STREAMS, begun)
    assert [answer.usage.completion_tokens for answer in answers] == [20] * len(STREAMS)
    assert [rank.exit_code(SOON) for rank in ranks] == [0, 0]
    for rank in ranks:
        rank.wait_until_gone(0.5)


def test_while_a_server_finishes_nobody_new_is_taken_on_and_a_second_sigterm_ends_it(own: Own) -> None:
    server = own(start(2))
    server.wait_until("healthy")
    with begun_answer(server) as chunks:
        server.process.send_signal(signal.SIGTERM)
        server.wait_until("draining")
        with pytest.raises(openai.InternalServerError, match="the server ends as soon as"):
            ask_streamed(server)
        next(iter(chunks))
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="shutting down"):
            list(chunks)
    assert server.exit_code(SOON) == 130
    server.wait_until_gone(0.5)


def test_answers_that_take_too_long_are_ended_with_an_error(own: Own) -> None:
    server = own(start(1, "--drain-seconds", "0.5"))
    server.wait_until("healthy")
    with begun_answer(server) as chunks:
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="shutting down"):
            list(chunks)
    assert server.exit_code(SOON) == 0


def test_a_worker_outlasts_its_first_rank_and_joins_it_again(own: Own, tmp_path: Path) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    flags = ["--form-timeout", "4"]
    first, worker = (own(BareRank(rank, hostfile, port, *flags)) for rank in range(2))
    first.wait_until("healthy")
    first.close()
    while "has not formed within 4 s" not in worker.output:
        assert worker.process.poll() is None, worker.output
        time.sleep(0.05)
    again = own(BareRank(0, hostfile, port))
    again.wait_until("healthy")
    assert ask_streamed(again) == "The capital of France is Paris."


def test_a_node_that_is_killed_while_the_ranks_wait_for_each_other_leaves_no_engine(own: Own, tmp_path: Path) -> None:
    rank = own(BareRank(0, write_hostfile(tmp_path, 2), free_port(), "--form-timeout", "1"))
    while not rank.pids_of("engine"):
        time.sleep(0.02)
    rank.process.kill()
    rank.process.wait()
    rank.wait_until_gone(15)


def test_a_launcher_that_is_killed_leaves_no_rank(own: Own) -> None:
    server = own(start(2))
    server.wait_until("healthy")
    server.process.kill()
    server.process.wait()
    server.wait_until_gone(SOON)


def test_mlx_launch_that_is_killed_leaves_no_rank(own: Own) -> None:
    port = free_port()
    serve = [MLXSERVE, "serve", "--model", "demo", "--port", str(port)]
    server = own(Server([MLX_LAUNCH, "-n", "2", "-p", str(free_port()), "--", *serve], port))
    server.wait_until("healthy")
    server.process.kill()
    server.process.wait()
    server.wait_until_gone(SOON)


@pytest.mark.parametrize("killed", ["rank 0", "rank 1"])
def test_whom_a_new_engine_comes_too_late_for_is_told(own: Own, tmp_path: Path, killed: str) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    ranks = [own(BareRank(rank, hostfile, port, "--recover-seconds", "0.2")) for rank in range(2)]
    ranks[0].wait_until("healthy")
    with begun_answer(ranks[0]) as chunks:
        victim = ranks[int(killed[-1])]
        (engine,) = victim.pids_of("engine")
        os.kill(engine, signal.SIGKILL)
        with pytest.raises(openai.APIError, match=r"no group has formed within 0\.2 s"):
            list(chunks)
    ranks[0].wait_until("healthy")
    assert ask_streamed(ranks[0]) == "The capital of France is Paris."
    assert len(ranks[0].pids_of("engine")) == len(ranks[1].pids_of("engine")) == 1
