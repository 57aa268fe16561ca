"""Twenty random kills in a row while fifty requests pass: no answer suffers, and nothing is left of any of it."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.system import interrupted
from tests.system.interrupted import BACK_SECONDS, Pieces, are_right
from tests.system.question import Answer, Question, ask_all, ask_at_once
from tests.system.ranks import Ranks
from tests.system.server import Server

Item = TypeVar("Item")
SEED = 10
KILLS = 20
REQUESTS = 50
AT_ONCE = 8
QUESTIONS = [dataclasses.replace(question, tokens=24) for question in interrupted.QUESTIONS]
PIECES_BETWEEN = (10, 90)
"""The fewest and the most pieces that come between the end of one interruption and the beginning of the next."""
SECONDS_BETWEEN = 4.0
"""The most between two kills where the second one comes while the first is being recovered from."""
IN_RECOVERY = 0.35
"""The share of kills that do."""
GROWTH = 1.05
SOON = 5.0
MLX_KERNELS = "mlx"
"""Where MLX compiles for the CPU, under names that its processes share: not the server's."""
LOST_SECONDS = 60.0
OPEN = ("01", "08")
"""A connection's states in which a server has its end: established, and closed by the client alone."""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What the server takes at the same point of its life: bytes of memory by process, file descriptors of nodes."""

    memory: dict[str, int]
    descriptors: dict[str, int]


def kill(ranks: Ranks, victim: str) -> None:
    """Kill the "engine" of a rank as soon as it has one, or its "node", which is started again."""
    kind, rank = victim.split()
    if kind == "engine":
        os.kill(ranks.engine(int(rank)), signal.SIGKILL)
    else:
        ranks.replace(int(rank))


class Killer(threading.Thread):
    """Kills at random, seeded: after so many pieces of answers, or so soon after the kill before."""

    def __init__(self, ranks: Ranks, pieces: Pieces) -> None:
        super().__init__(daemon=True)
        self._ranks = ranks
        workers = range(1, len(ranks))
        self._victims = ["engine 0", *(f"{kind} {rank}" for kind in ("engine", "node") for rank in workers)]
        self._pieces = pieces
        self._random = random.Random(SEED)
        self.kills: list[tuple[float, str]] = []
        """When, and who."""

    def run(self) -> None:
        while len(self.kills) < KILLS:
            if self.kills and self._random.random() < IN_RECOVERY:
                time.sleep(self._random.uniform(0, SECONDS_BETWEEN))
            else:
                self._await_pieces(self._random.randint(*PIECES_BETWEEN))
            victim = self._random.choice(self._victims)
            kill(self._ranks, victim)
            self.kills.append((time.monotonic(), victim))

    def _await_pieces(self, number: int) -> None:
        wanted = len(self._pieces.times) + number
        deadline = time.monotonic() + LOST_SECONDS
        while len(self._pieces.times) < wanted:
            assert time.monotonic() < deadline, f"no answer goes on since {self.kills[-1:]}"
            time.sleep(0.01)


def back_after(kills: list[tuple[float, str]], times: list[float]) -> list[tuple[float, str]]:
    """For each interruption, how long after the last kill in it answers went on, and that kill's victim."""
    found = []
    for earlier, later in itertools.pairwise(times):
        within = [kill for kill in kills if earlier - 0.1 <= kill[0] <= later]
        if within and later - earlier > 1:
            found.append((later - within[-1][0], within[-1][1]))
    return found


@pytest.fixture(params=[2, 3], ids=["two ranks", "three ranks"])
def ranks(request: pytest.FixtureRequest, tmp_path: Path, temporary: Path) -> Iterator[Ranks]:
    """Two ranks, then three, which put their temporary files into a folder of their own.

    Without guesses: the same few questions would be answered in so few pieces that they were over before all the kills.
    """
    parallel = request.config.getoption("parallel")
    ranks = Ranks(tmp_path, request.param, "--parallel", parallel, "--speculation", "off")
    yield ranks
    ranks.close()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the ranks take for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_twenty_random_kills_while_fifty_requests_pass(plain: Server, ranks: Ranks, temporary: Path) -> None:
    expected = ask_at_once(plain, QUESTIONS)
    before = cost_after_a_kill(ranks, expected)

    pieces = Pieces()
    killer = Killer(ranks, pieces)
    killer.start()
    answers = asyncio.run(_ask(ranks[0], repeated(QUESTIONS), pieces))
    killer.join(SOON)
    assert len(killer.kills) == KILLS
    are_right(repeated(expected), answers, repeated(QUESTIONS))
    back = back_after(killer.kills, pieces.times)
    print(f"{len(back)} interruptions; back after", ", ".join(f"{took:.1f} s ({who})" for took, who in back))
    assert max(back)[0] < BACK_SECONDS

    after = cost_after_a_kill(ranks, expected)
    if grown(before, after):  # what MLX keeps for reuse differs from one engine's life to the next
        after = cost_after_a_kill(ranks, expected)
    for name, bytes_before in before.memory.items():
        print(f"{name}: {bytes_before / 1e6:.1f} MB after one kill, {after.memory[name] / 1e6:.1f} MB after all")
    assert not grown(before, after)
    assert after.descriptors == before.descriptors

    ranks[0].process.send_signal(signal.SIGTERM)
    assert {rank.exit_code(SOON) for rank in ranks} == {0}
    for rank in ranks.started:
        rank.wait_until_gone(0.5)
    for port in ranks.ports:
        socket.create_server(("127.0.0.1", port)).close()
    print("left in the folder for temporary files:", *(path.relative_to(temporary) for path in temporary.rglob("*.*")))
    assert {path.name for path in temporary.iterdir()} <= {MLX_KERNELS}


def cost_after_a_kill(ranks: Ranks, expected: list[Answer]) -> Cost:
    """What the server takes when an engine was killed amid eight answers, and eight more have been given."""
    ranks[0].wait_until("healthy")
    are_right(expected, ask_at_once(ranks[0], QUESTIONS, Pieces(action=lambda: kill(ranks, "engine 1"))), QUESTIONS)
    are_right(expected, ask_at_once(ranks[0], QUESTIONS), QUESTIONS)
    wait_until_left(ranks[0].port)
    return cost(ranks)


def wait_until_left(port: int) -> None:
    """Wait until the server at `port` has closed all connections: its clients have, and it sees that a moment later."""
    deadline = time.monotonic() + SOON
    while open_connections(port):
        assert time.monotonic() < deadline, f"after {SOON} s connections are open still"
        time.sleep(0.01)


def open_connections(port: int) -> int:
    """Those of which the server at `port` has its end."""
    ends = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(local.endswith(f":{port:04X}") and state in OPEN for _, local, _, state, *_ in ends)


def grown(before: Cost, after: Cost) -> bool:
    """Whether all processes together, or one of the nodes, which live on, have more memory than they should."""
    nodes = [name for name in before.memory if name.startswith("node")]
    together = sum(after.memory.values()) > GROWTH * sum(before.memory.values())
    return together or any(after.memory[name] > GROWTH * before.memory[name] for name in nodes)


def cost(ranks: Ranks) -> Cost:
    """What they take now, idle."""
    nodes = {f"node {rank}": each.process.pid for rank, each in enumerate(ranks)}
    engines = {f"engine {rank}": ranks.engine(rank) for rank in range(len(ranks))}
    return Cost(
        {name: _resident(pid) for name, pid in (nodes | engines).items()},
        {name: len(list(Path(f"/proc/{pid}/fd").iterdir())) for name, pid in nodes.items()},
    )


def repeated(items: list[Item]) -> list[Item]:
    """So many of them as there are requests, round and round."""
    return list(itertools.islice(itertools.cycle(items), REQUESTS))


async def _ask(server: Server, questions: list[Question], pieces: Pieces) -> list[Answer]:
    async with server.async_client() as client:
        return await ask_all(client, questions, pieces, AT_ONCE)


def _resident(pid: int) -> int:
    """Bytes of a process in memory."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) * 1024
