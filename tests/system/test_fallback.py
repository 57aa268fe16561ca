"""Ranks that were started for jaccl, which MLX has on Macs alone, go on over the ring where that is asked for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import mlxserve
from tests.conftest import Shared
from tests.ports import free_port
from tests.system.question import Question, ask_at_once
from tests.system.server import MLXSERVE, BareRank, Server, write_hostfile
from tests.system.test_mistakes import IN_TIME, ends_with

Own = Callable[[Server], Server]
QUESTIONS = [Question("What is the capital of France?"), Question("Tell me about the sea.", 24, 0.8, seed=7)]
NO_JACCL = "could not join the group: MLX has no jaccl on this machine"
WARNING = f"{NO_JACCL}; going on over the ring, which is slower"


@pytest.fixture
def hostfile(tmp_path: Path) -> str:
    """Two ranks on this machine, for jaccl."""
    devices = [[None, "rdma_en2"], ["rdma_en2", None]]
    hosts = [{"ssh": "127.0.0.1", "ips": ["127.0.0.1"], "rdma": names} for names in devices]
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps({"backend": "jaccl", "hosts": hosts}))
    return str(path)


@pytest.fixture
def jaccl(own: Own, hostfile: str) -> Callable[..., Server]:
    """Starts a command for these hosts."""

    def begin(command: str, *flags: str) -> Server:
        port = free_port()
        where = ("--hostfile", hostfile, "--starting-port", str(free_port()))
        return own(Server([MLXSERVE, command, *where, "--port", str(port), *flags], port))

    return begin


def told(server: Server, words: str) -> list[str]:
    """The ranks that have said so, once for each time."""
    return sorted(line.partition("]")[0] for line in server.output.splitlines() if words in line)


def test_they_serve_over_the_ring_with_a_warning(jaccl: Callable[..., Server], shared: Shared) -> None:
    server = jaccl("launch", "--model", "demo", "--fallback", "ring")
    assert server.wait_until("healthy")["backend"] == "ring"
    assert told(server, WARNING) == ["[rank 0", "[rank 1"]
    texts = [[answer.text for answer in ask_at_once(each, QUESTIONS)] for each in (server, shared(2))]
    assert texts[0] == texts[1]


def test_a_rank_waits_for_one_that_comes_over_later(own: Own, tmp_path: Path) -> None:
    devices, ring, port = tmp_path / "devices.json", write_hostfile(tmp_path, 2), free_port()
    devices.write_text(json.dumps([[None, "rdma_en2"], ["rdma_en2", None]]))
    variables = {
        "MLX_HOSTFILE": "",
        "MLX_IBV_DEVICES": str(devices),
        "MLX_JACCL_COORDINATOR": f"127.0.0.1:{free_port()}",
        "MLXSERVE_FALLBACK_HOSTFILE": str(ring),
    }

    def start(rank: int) -> Server:
        flags = ("--fallback", "ring", "--form-timeout", "8")
        return own(BareRank(rank, ring, port, *flags, environment=variables))

    first = start(0)
    first.wait_until_it_says("has not formed within 8 s: no answer from rank 1")
    start(1)
    assert first.wait_until("healthy")["backend"] == "ring"


def test_unasked_they_end(jaccl: Callable[..., Server]) -> None:
    ends_with(jaccl("launch", "--model", "demo"), 4, NO_JACCL)


def test_check_tells_what_is_missing_and_tests_the_ring(jaccl: Callable[..., Server]) -> None:
    server = jaccl("check", "--fallback", "ring")
    assert server.exit_code(IN_TIME) == 0
    assert "warn  rank 1  RDMA     Linux" in server.output
    assert told(server, WARNING) == ["[rank 0", "[rank 1"]
    assert "ok  relay  exact to the bit on 2 ranks" in server.output


def test_data_that_arrives_changed_is_told_and_nothing_is_served(own: Own, tmp_path: Path) -> None:
    other, ring, port = tmp_path / "mlxserve", write_hostfile(tmp_path, 2), free_port()
    shutil.copytree(Path(mlxserve.__file__).parent, other, ignore=shutil.ignore_patterns("__pycache__"))
    selftest = other / "pipeline" / "selftest.py"
    of_each_its_own = "random.key(rank + __import__('os').getpid())"
    selftest.write_text(selftest.read_text().replace("random.key(rank + 1)", of_each_its_own))
    ranks = [own(BareRank(rank, ring, port, package=other)) for rank in (0, 1)]
    for rank in ranks:
        ends_with(rank, 1, "what rank 0 received of 8 B by all_sum differs from what was sent")
        assert "ready" not in rank.output
