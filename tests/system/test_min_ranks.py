"""With `--min-ranks` a server goes on without the ranks that are lost, and with them when they are back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.ports import free_port
from tests.system.interrupted import QUESTIONS, Pieces, are_right
from tests.system.question import ask_at_once
from tests.system.server import BareRank, Server, kill_all, start, write_hostfile
from tests.system.test_chat import ask_streamed

Own = Callable[[Server], Server]
SOON = 5.0
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""A rank alone on its machine would take more, and more threads round otherwise."""
LAST = 29
"""The demo model's last layer."""


class Ring:
    """The ranks of a ring, started one by one."""

    def __init__(self, own: Own, folder: Path, ranks: int, least: int, *flags: str) -> None:
        self._own = own
        self._hostfile, self._port = write_hostfile(folder, ranks), free_port()
        self._flags = ("--min-ranks", str(least), *flags)

    def start(self, rank: int) -> BareRank:
        server = BareRank(rank, self._hostfile, self._port, *self._flags, environment=ONE_THREAD)
        self._own(server)
        return server


def layers(server: Server) -> dict[int, list[int]]:
    """First and last of each rank that is there."""
    return {rank["rank"]: rank["layers"] for rank in server.health()["ranks"]}


def kill_all_of(rank: Server) -> None:
    """As when its machine loses power."""
    kill_all(rank.pids)


def test_answers_go_on_without_a_machine_that_is_lost_and_across_its_return(
    own: Own, plain: Server, tmp_path: Path
) -> None:
    expected = ask_at_once(plain, QUESTIONS)
    ring = Ring(own, tmp_path, 3, 2)
    first, middle, _ = (ring.start(rank) for rank in range(3))
    first.wait_until("healthy")
    whole = layers(first)
    assert list(whole) == [0, 1, 2]

    are_right(expected, ask_at_once(first, QUESTIONS, Pieces(action=lambda: kill_all_of(middle))))
    health = first.wait_until("degraded")
    assert health["reason"] == "the model is served without rank 1 (127.0.0.1)"
    assert (health["serving"], health["world_size"]) == (True, 3)
    assert httpx.get(f"{first.url}/health").status_code == 503
    pair = layers(first)
    assert list(pair) == [0, 2]
    assert pair[2] == [pair[0][1] + 1, LAST]
    assert ask_streamed(first) == "The capital of France is Paris."

    are_right(expected, ask_at_once(first, QUESTIONS, Pieces(action=lambda: ring.start(1))))
    first.wait_until("healthy")
    assert layers(first) == whole


def test_a_server_starts_without_a_rank_that_comes_later(own: Own, tmp_path: Path) -> None:
    ring = Ring(own, tmp_path, 2, 1, "--form-timeout", "10")
    first = ring.start(0)
    assert first.wait_until("degraded")["serving"]
    assert layers(first) == {0: [0, LAST]}
    assert "going on without rank 1 (127.0.0.1)" in first.output
    second = ring.start(1)
    first.wait_until("healthy")
    assert list(layers(first)) == [0, 1]
    assert ask_streamed(first) == "The capital of France is Paris."
    second.process.send_signal(signal.SIGTERM)
    assert [rank.exit_code(SOON) for rank in (first, second)] == [0, 0]


def test_launch_goes_on_while_enough_ranks_do(own: Own) -> None:
    server = own(start(2, "--min-ranks", "1"))
    server.wait_until("healthy")
    (worker,) = (pid for pid in server.pids_of("serve") if b"MLX_RANK=1\0" in environment_of(pid))
    os.kill(worker, signal.SIGKILL)
    server.wait_until("degraded")
    assert "[rank 1]" not in server.output.splitlines()[-1]
    assert "was ended by signal 9; the others go on without it" in server.output
    assert ask_streamed(server) == "The capital of France is Paris."
    server.process.send_signal(signal.SIGINT)
    assert server.exit_code(SOON) == 0
    server.wait_until_gone(0.5)


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes() + b"\0"
