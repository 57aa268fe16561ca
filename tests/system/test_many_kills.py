"""Twenty random kills in a row while fifty requests pass: no answer suffers, and nothing is left of any of it."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from tests.system import interrupted
from tests.system.interrupted import BACK_SECONDS, Pieces, are_right
from tests.system.question import Answer, Question, ask_all, ask_at_once
from tests.system.server import BareRank, Server, free_port, write_hostfile

Item = TypeVar("Item")
Own = Callable[[Server], Server]
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


@dataclasses.dataclass(frozen=True)
class Cost:
    """What the server takes at the same point of its life: bytes of memory by process, file descriptors of nodes."""

    memory: dict[str, int]
    descriptors: dict[str, int]


class Pair:
    """Two ranks of which things are killed."""

    def __init__(self, own: Own, folder: Path) -> None:
        self._own = own
        self._hostfile, self._port = write_hostfile(folder, 2), free_port()
        ring = [int(address.rpartition(":")[2]) for (address,) in json.loads(self._hostfile.read_text())]
        self.ports = [self._port, *ring]
        self.ranks = [self._start(rank) for rank in range(2)]
        self.started = list(self.ranks)

    @property
    def first(self) -> BareRank:
        return self.ranks[0]

    def kill(self, victim: str) -> None:
        """Kill the "engine" of a rank as soon as it has one, or its "node", which is started again."""
        kind, rank = victim.split()
        if kind == "engine":
            os.kill(self.engine(int(rank)), signal.SIGKILL)
            return
        self.ranks[int(rank)].process.kill()
        self.ranks[int(rank)] = self._start(int(rank))
        self.started.append(self.ranks[int(rank)])

    def engine(self, rank: int) -> int:
        """The process, waited for."""
        deadline = time.monotonic() + LOST_SECONDS
        while len(engines := self.ranks[rank].pids_of("engine")) != 1:
            assert time.monotonic() < deadline, self.ranks[rank].output
            time.sleep(0.02)
        return engines[0]

    def cost(self) -> Cost:
        """What it takes now, idle."""
        processes = {f"node {rank}": each.process.pid for rank, each in enumerate(self.ranks)}
        nodes = list(processes)
        processes |= {f"engine {rank}": self.engine(rank) for rank in range(2)}
        return Cost(
            {name: _resident(pid) for name, pid in processes.items()},
            {name: len(list(Path(f"/proc/{processes[name]}/fd").iterdir())) for name in nodes},
        )

    def _start(self, rank: int) -> BareRank:
        started = BareRank(rank, self._hostfile, self._port)
        self._own(started)
        return started


class Killer(threading.Thread):
    """Kills at random, seeded: after so many pieces of answers, or so soon after the kill before."""

    def __init__(self, pair: Pair, pieces: Pieces) -> None:
        super().__init__(daemon=True)
        self._pair = pair
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
            victim = self._random.choice(["engine 0", "engine 1", "node 1"])
            self._pair.kill(victim)
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


def test_twenty_random_kills_while_fifty_requests_pass(
    own: Own, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: Server
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    expected = ask_at_once(plain, QUESTIONS)
    pair = Pair(own, tmp_path)
    before = cost_after_a_kill(pair, expected)

    pieces = Pieces()
    killer = Killer(pair, pieces)
    killer.start()
    answers = asyncio.run(_ask(pair.first, repeated(QUESTIONS), pieces))
    killer.join(SOON)
    assert len(killer.kills) == KILLS
    are_right(repeated(expected), answers, repeated(QUESTIONS))
    back = back_after(killer.kills, pieces.times)
    print(f"{len(back)} interruptions; back after", ", ".join(f"{took:.1f} s ({who})" for took, who in back))
    assert max(back)[0] < BACK_SECONDS

    after = cost_after_a_kill(pair, expected)
    for name, bytes_before in before.memory.items():
        print(f"{name}: {bytes_before / 1e6:.1f} MB after one kill, {after.memory[name] / 1e6:.1f} MB after all")
    assert sum(after.memory.values()) < GROWTH * sum(before.memory.values())
    assert after.memory["node 0"] < GROWTH * before.memory["node 0"]
    assert after.descriptors == before.descriptors

    pair.first.process.send_signal(signal.SIGTERM)
    assert [rank.exit_code(SOON) for rank in pair.ranks] == [0, 0]
    for rank in pair.started:
        rank.wait_until_gone(0.5)
    for port in pair.ports:
        socket.create_server(("127.0.0.1", port)).close()
    print("left in the folder for temporary files:", *(path.relative_to(temporary) for path in temporary.rglob("*.*")))
    assert {path.name for path in temporary.iterdir()} <= {MLX_KERNELS}


def cost_after_a_kill(pair: Pair, expected: list[Answer]) -> Cost:
    """What the server takes when an engine was killed amid eight answers, and eight more have been given."""
    pair.first.wait_until("healthy")
    are_right(expected, ask_at_once(pair.first, QUESTIONS, Pieces(action=lambda: pair.kill("engine 1"))), QUESTIONS)
    are_right(expected, ask_at_once(pair.first, QUESTIONS), QUESTIONS)
    return pair.cost()


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
