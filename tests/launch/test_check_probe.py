"""`mlxserve probe` as the check talks to it: what it tells of this machine, and its ports while the check lasts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from mlxserve.bundle import build_id
from mlxserve.launch.check.listeners import STRANGER, reach
from mlxserve.launch.check.messages import Connect, Facts, Model, Question, Reached
from tests.ports import free_port

TOKEN = "a1b2"


class Probe:
    """A running probe, asked as the check asks it."""

    def __init__(self, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlxserve", "probe"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
        )

    def look(self, question: Question) -> Facts:
        self._say(question)
        return msgspec.json.decode(self._line(), type=Facts)

    def reach(self, *addresses: str) -> Reached:
        self._say(Connect(addresses))
        return msgspec.json.decode(self._line(), type=Reached)

    def close(self) -> int:
        """Close its standard input; its exit code."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(5)

    def _say(self, words: Question | Connect) -> None:
        assert self.process.stdin
        self.process.stdin.write(msgspec.json.encode(words) + b"\n")
        self.process.stdin.flush()

    def _line(self) -> bytes:
        assert self.process.stdout
        return self.process.stdout.readline()


@pytest.fixture
def start() -> Iterator[Callable[..., Probe]]:
    started: list[Probe] = []

    def one(**environment: str) -> Probe:
        started.append(Probe(**environment))
        return started[-1]

    yield one
    for probe in started:
        probe.process.kill()
        probe.process.wait()
        assert probe.process.stdout
        probe.process.stdout.close()


Start = Callable[..., Probe]


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def test_it_loads_nothing_heavy() -> None:
    program = (
        "import sys; import mlxserve.launch.check.probe\n"
        "print(sorted({'mlx.core', 'mlx_lm', 'numpy', 'transformers', 'httpx', 'asyncio'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"


def test_it_tells_what_this_machine_is(start: Start, tmp_path: Path) -> None:
    probe = start(MLX_METAL_FAST_SYNCH="1", XDG_CACHE_HOME=str(tmp_path / "not" / "yet"))
    facts = probe.look(Question(addresses=("127.0.0.1", "192.0.2.7")))
    assert facts.build == build_id()
    assert facts.system.kind == "Linux"
    assert 0 < facts.free_memory < facts.memory
    (disk,) = facts.disks
    assert disk.folder == str(tmp_path / "not" / "yet" / "mlxserve")
    assert disk.free > 0
    assert disk.writable
    assert facts.strange_addresses == ("192.0.2.7",)
    assert facts.harmful == "1"
    assert probe.close() == 0


@pytest.mark.parametrize("after", ["nothing", "the facts", "the connections"])
def test_it_ends_with_its_standard_input(start: Start, after: str) -> None:
    probe = start()
    if after != "nothing":
        probe.look(Question())
    if after == "the connections":
        probe.reach()
    assert probe.close() == 0


def test_probes_reach_each_other_while_they_listen(start: Start) -> None:
    one, other = start(), start()
    facts = one.look(Question(TOKEN, listen=(free_address(),), control="127.0.0.1"))
    assert facts.control
    other.look(Question(TOKEN))
    reached = other.reach(facts.listening[0].address, facts.control.address)
    assert [peer.failure for peer in reached.peers] == [None, None]
    assert all(0 < peer.milliseconds < 1000 for peer in reached.peers)


def test_a_ring_can_listen_on_the_ports_as_soon_as_the_probe_has_ended(start: Start) -> None:
    """Without SO_REUSEADDR a connection left in TIME_WAIT would keep the port taken."""
    probe, address = start(), free_address()
    probe.look(Question(TOKEN, listen=(address,)))
    assert reach(TOKEN, address).failure is None
    assert probe.close() == 0
    with socket.socket() as ring:
        ring.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        ring.bind(("127.0.0.1", port_of(address)))
        ring.listen()


def test_a_taken_port_is_told(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        facts = start().look(Question(listen=(address,), serve="192.0.2.7:8100"))
    (port,) = facts.listening
    assert port.failure
    assert port.failure.name == "EADDRINUSE"
    assert facts.serve
    assert facts.serve.failure
    assert facts.serve.failure.name == "EADDRNOTAVAIL"


def test_a_port_that_there_cannot_be_is_told(start: Start) -> None:
    (port,) = start().look(Question(listen=("127.0.0.1:65536",))).listening
    assert port.failure
    assert "65535" in port.failure.text


def test_something_else_is_not_taken_for_a_peer(start: Start) -> None:
    address = free_address()
    start_other = start()
    start_other.look(Question("another check", listen=(address,)))
    failure = reach(TOKEN, address).failure
    assert failure
    assert failure.name == STRANGER


def test_a_port_where_nothing_listens_is_refused() -> None:
    failure = reach(TOKEN, free_address()).failure
    assert failure
    assert failure.name == "ECONNREFUSED"


def found(start: Start, model: str, **environment: str) -> Model:
    model_found = start(**environment).look(Question(model=model)).model
    assert model_found
    return model_found


def snapshot(home: Path, weights: str = "model.safetensors") -> None:
    """What the hub's cache holds of org/name."""
    repository = home / "hub/models--org--name"
    folder = repository / "snapshots/c0ffee"
    folder.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("c0ffee")
    (folder / "config.json").write_text("{}")
    (folder / weights).write_bytes(b"weights")


def test_a_repository_that_is_not_here_will_be_downloaded(start: Start, tmp_path: Path) -> None:
    probe = start(HF_HOME=str(tmp_path), HF_TOKEN="")
    facts = probe.look(Question(model="org/name"))
    assert facts.model == Model("hub", "")
    assert [disk.folder for disk in facts.disks][1:] == [str(tmp_path / "hub")]


def test_a_repository_in_the_cache_is_found(start: Start, tmp_path: Path) -> None:
    snapshot(tmp_path)
    model = found(start, "org/name", HF_HOME=str(tmp_path), HF_TOKEN="secret", HF_HUB_OFFLINE="1")
    assert model.place == str(tmp_path / "hub/models--org--name/snapshots/c0ffee")
    assert model.weight_bytes == len(b"weights")
    assert model.digest
    assert model.offline
    assert model.has_token
    assert found(start, "org/name@c0ffee", HF_HOME=str(tmp_path)).digest == model.digest


def test_weight_files_that_the_index_names_are_missed(start: Start, tmp_path: Path) -> None:
    names = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": names[0], "b": names[1]}}))
    (tmp_path / names[0]).write_bytes(b"weights")
    model = found(start, str(tmp_path))
    assert model.missing == (names[1],)
    assert model.problem == ""


@pytest.mark.parametrize(
    ("name", "kind", "problem"),
    [
        ("nothing/at/all", "folder", "is not there"),
        ("nothing.gguf", "file", "is not there"),
        ("empty", "folder", "has no config.json"),
        ("bare", "folder", "has no weights"),
        ("text.gguf", "file", "is no GGUF file"),
    ],
)
def test_what_is_no_model_is_told(start: Start, tmp_path: Path, name: str, kind: str, problem: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/config.json").write_text("{}")
    (tmp_path / "text.gguf").write_text("a text")
    model = found(start, str(tmp_path / name))
    assert model.kind == kind
    assert problem in model.problem


def test_files_with_the_same_head_and_size_are_the_same(start: Start, tmp_path: Path) -> None:
    digests = []
    for number, content in enumerate([b"GGUF one", b"GGUF one", b"GGUF two", b"GGUF one more"]):
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(content)
        digests.append(found(start, str(path)).digest)
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3
