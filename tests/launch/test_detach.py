"""Ranks that run without a launcher: begun, found again, ended; and `launch --detach` where something is wrong."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from mlxserve.errors import UserError
from mlxserve.launch.detach import rank as rank_module
from mlxserve.launch.detach.orders import Begin
from mlxserve.launch.detach.rank import DetachedRank, Record
from mlxserve.launch.request import Http
from tests.launch.conftest import NAPS, Launch, Program
from tests.launch.test_launcher import two_hosts, wait_until_ended

WAIT = f"""
import os, signal, sys, time
print(os.getsid(0) == os.getpid(), os.readlink("/proc/self/fd/0"), open(os.environ["MLX_HOSTFILE"]).read(),
      os.environ["MLX_RANK"], os.environ["MLXSERVE_API_KEY"], *sys.argv[1:], flush=True)
{NAPS}"""
ORDER = Begin(
    name="8100-rank0",
    words=("serve", "--model", "it's"),
    environment={"MLX_RANK": "0"},
    files={"MLX_HOSTFILE": "[]"},
    secrets={"MLXSERVE_API_KEY": "sk-it"},
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def begun(monkeypatch: pytest.MonkeyPatch, source: str = WAIT, order: Begin = ORDER) -> tuple[DetachedRank, Record]:
    """A rank that runs `source` in the place of mlxserve."""
    monkeypatch.setattr(rank_module, "own_command", lambda: [sys.executable, "-c", source])
    rank = DetachedRank(order.name)
    return rank, rank.begin(order)


def said(rank: DetachedRank, words: str) -> str:
    """Its log, once it has these words."""
    deadline = time.monotonic() + 10
    while words not in (text := rank.log.read_text()):
        assert time.monotonic() < deadline, text
        time.sleep(0.02)
    return text


def test_a_rank_has_a_session_no_input_and_what_it_was_ordered(monkeypatch: pytest.MonkeyPatch) -> None:
    rank, _ = begun(monkeypatch)
    assert said(rank, "it's") == "True /dev/null [] 0 sk-it serve --model it's\n"
    rank.end()


def test_what_it_leaves_is_its_users_alone_and_has_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    rank, _ = begun(monkeypatch, WAIT.replace('os.environ["MLXSERVE_API_KEY"],', ""))
    said(rank, "it's")
    assert stat.S_IMODE(rank.folder.stat().st_mode) == 0o700
    for file in rank.folder.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
        assert "sk-it" not in file.read_text()
    rank.end()


def test_a_rank_that_runs_is_found_and_not_started_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    rank, record = begun(monkeypatch)
    again = DetachedRank(ORDER.name)
    assert again.running() == again.begin(ORDER) == record
    assert not again.was_begun_here
    assert again.exit_code() is None
    with pytest.raises(UserError, match="runs here as 8100-rank0 that was started with other flags"):
        again.begin(msgspec.structs.replace(ORDER, words=("serve",)))
    assert again.end()
    assert again.exit_code() == 1
    assert rank.exit_code() == 128 + signal.SIGHUP


def test_a_rank_whose_machine_was_switched_off_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rank, first = begun(monkeypatch)
    said(rank, "it's")
    os.kill(first.pid, signal.SIGKILL)
    wait_until_ended([first.pid], 5) if rank.exit_code() is None else None
    again, second = begun(monkeypatch)
    assert again.was_begun_here
    assert second.pid != first.pid
    assert "it's" in (again.folder / "log.old").read_text()
    again.end()


def test_where_none_runs_there_is_nothing_to_end() -> None:
    assert not DetachedRank(ORDER.name).end()


def test_a_rank_may_finish_what_it_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    finishing = "lambda *_: (time.sleep(0.5), print('done', flush=True), sys.exit())"
    source = WAIT.replace("print(", f"signal.signal(signal.SIGTERM, {finishing})\nprint(", 1)
    rank, _ = begun(monkeypatch, source)
    said(rank, "it's")
    assert rank.end(drain_seconds=10)
    assert rank.log.read_text().endswith("done\n")


def test_a_rank_that_does_not_end_is_killed_with_what_it_has_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_module, "PATIENCE", 0.2)
    child = f"import subprocess; print(subprocess.Popen([{sys.executable!r}, '-c', 'import time; time.sleep(60)']).pid)"
    stubborn = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{child}\n{WAIT}"
    rank, record = begun(monkeypatch, stubborn)
    pid = int(said(rank, "it's").split()[0])
    assert rank.end(drain_seconds=0)
    wait_until_ended([pid], 2)
    assert rank.exit_code() == 137
    assert not rank.running()
    assert record.pid != pid


@pytest.mark.parametrize(
    ("http", "address", "url"),
    [
        (Http("127.0.0.1", 8100), "127.0.0.1:8100", "http://127.0.0.1:8100"),
        (Http("0.0.0.0", 8100, True), "127.0.0.1:8100", "https://localhost:8100"),
        (Http("::", 8100), "::1:8100", "http://localhost:8100"),
        (Http("fd00::1", 8100), "fd00::1:8100", "http://[fd00::1]:8100"),
    ],
)
def test_where_rank_0_serves_is_known_before_it_does(http: Http, address: str, url: str) -> None:
    assert (http.address, http.url) == (address, url)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--detach", "-n", "2", "--port", "0"), "--detach needs a --port other than 0"),
        (("--keep", "-n", "2", "--port", "0"), "--keep needs a --port other than 0"),
        (("--detach", "-n", "2", "--backend", "mpi"), "--detach is not for the mpi backend"),
        (("--detach", "--stop", "-n", "2"), "argument --stop: not allowed with argument --detach"),
        (("--detach",), "name the hosts with --hostfile hosts.json, or a number of ranks"),
        (("--stop",), "name the hosts with --hostfile hosts.json, or a number of ranks"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    launch: Launch, state: Path, words: tuple[str, ...], sentence: str
) -> None:
    launcher = launch(*words)
    _, errors = launcher.communicate(timeout=10)
    assert (launcher.returncode, errors.count("\n")) == (2, 1)
    assert sentence in errors
    assert not state.exists()


def test_what_does_not_run_is_stopped_already(launch: Launch, tmp_path: Path, fake_ssh: str) -> None:
    stopping = launch("--stop", "--hostfile", two_hosts(tmp_path), PATH=fake_ssh)
    _, errors = stopping.communicate(timeout=20)
    assert stopping.returncode == 0
    assert sorted(errors.splitlines()) == ["mlxserve: mini-1: does not run", "mlxserve: mini-2: does not run"]


def test_a_host_that_is_not_reached_is_named(launch: Launch, tmp_path: Path, fake_ssh: str) -> None:
    (tmp_path / "bin" / "ssh").write_text("#!/bin/bash\necho 'ssh: no route to host' >&2\nexit 255\n")
    for word in ("--detach", "--stop"):
        launcher = launch(word, "--hostfile", two_hosts(tmp_path), PATH=fake_ssh)
        _, errors = launcher.communicate(timeout=20)
        assert launcher.returncode == 255
        assert "mini-1" in errors
        assert "does `ssh mini-1 true` work without a password?" in errors


def test_a_host_without_the_program_is_told_what_to_do(
    launch: Launch, program: Program, tmp_path: Path, fake_ssh: str
) -> None:
    for word, sentence in (
        ("--detach", f"has no program at {tmp_path}/nowhere: copy this one there with --deploy"),
        ("--stop", "there is no such program: name its path there with --program"),
    ):
        launcher = launch(
            word, "--hostfile", two_hosts(tmp_path), "--program", str(tmp_path / "nowhere"), PATH=fake_ssh
        )
        _, errors = launcher.communicate(timeout=20)
        assert launcher.returncode in (1, 127)
        assert sentence in errors


def test_a_port_that_another_server_has_is_told(launch: Launch, state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        launcher = launch("--detach", "-n", "1", "--model", "demo", "--port", port)
        _, errors = launcher.communicate(timeout=20)
    assert launcher.returncode == 2
    assert f"something listens at 127.0.0.1:{port} already: end it, or choose another --port" in errors
    assert not list(state.glob("*/*/log"))


def test_no_list_of_processes_shows_a_key(launch: Launch, program: Program) -> None:
    launcher = launch("--detach", "-n", "2", "--program", program("import sys; sys.stdin.read()"), "--api-key", "sk-it")
    deadline = time.monotonic() + 10
    while len([line for line in _processes() if "detached" in line and "program" in line and "bash" not in line]) < 2:
        assert time.monotonic() < deadline, _processes()
        time.sleep(0.05)
    assert not [line for line in _processes() if "sk-it" in line and f"{launcher.pid} " not in line]
    launcher.send_signal(signal.SIGINT)
    assert launcher.wait(15) == 130


def _processes() -> list[str]:
    return subprocess.run(
        ["ps", "-axwwo", "pid=,args="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
