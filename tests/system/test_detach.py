"""`mlxserve launch --detach`: what it started goes on without it, whatever becomes of terminals and ssh."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.system.hosts import HOME, Bed, Host, install
from tests.system.server import MLXSERVE, Server, kill_all
from tests.system.test_chat import ask_streamed

Own = Callable[[Server], Server]
SOON = 10.0


def detach(state: Path, port: int, *flags: str, ranks: int = 2, model: str = "demo") -> Server:
    command = [MLXSERVE, "launch", "--detach", "-n", str(ranks), "--model", model, "--port", str(port), *flags]
    return Server(command, port, {"XDG_STATE_HOME": str(state)})


def stop(state: Path, port: int, *flags: str, ranks: int = 2) -> subprocess.CompletedProcess[str]:
    command = [MLXSERVE, "launch", "--stop", "-n", str(ranks), "--port", str(port), *flags]
    return subprocess.run(
        command, env=os.environ | {"XDG_STATE_HOME": str(state)}, capture_output=True, text=True, timeout=60
    )


def test_the_server_goes_on_without_its_launcher_until_it_is_stopped(own: Own, tmp_path: Path) -> None:
    port = free_port()
    server = own(detach(tmp_path, port))
    assert server.exit_code(90) == 0, server.output
    assert server.health()["status"] == "healthy"
    for rank in range(2):
        assert f"log {tmp_path}/mlxserve/{port}-rank{rank}/log\n" in server.output
    assert f"how it is: http://127.0.0.1:{port}/health\n" in server.output
    assert f"until `mlxserve launch --stop -n 2 --port {port}`\n" in server.output
    assert ask_streamed(server) == "The capital of France is Paris."

    engines = server.pids_of("engine")
    os.kill(engines[0], signal.SIGKILL)
    deadline = time.monotonic() + 60
    while server.health().get("status") != "healthy" or not set(server.pids_of("engine")).isdisjoint(engines):
        assert time.monotonic() < deadline, server.health()
        time.sleep(0.1)
    assert ask_streamed(server) == "The capital of France is Paris."

    stopped = stop(tmp_path, port)
    assert stopped.returncode == 0
    assert told_to_end(stopped.stderr) == {"rank 0", "rank 1"}
    server.wait_until_gone(0.5)
    assert "does not run" in stop(tmp_path, port).stderr


def told_to_end(errors: str) -> set[str]:
    """The ranks that --stop has told of. That one ends may end the other before it is asked to."""
    found = [re.fullmatch(r"mlxserve: (.+): (ended|does not run)", line) for line in errors.splitlines()]
    assert "ended" in errors
    return {match[1] for match in found if match}


def test_a_terminal_that_is_closed_while_the_model_loads_does_not_end_it(own: Own, tmp_path: Path) -> None:
    port = free_port()
    control, terminal = pty.openpty()
    server = own(InTerminal(tmp_path, port, terminal))
    os.close(terminal)
    said = b""
    while b"waits for the others" not in said:
        said += os.read(control, 4096)
    os.close(control)
    server.process.wait(SOON)
    deadline = time.monotonic() + 90
    while server.health().get("status") != "healthy":
        assert time.monotonic() < deadline, server.health()
        time.sleep(0.1)
    assert ask_streamed(server) == "The capital of France is Paris."
    assert stop(tmp_path, port, "--drain-seconds", "0").returncode == 0
    server.wait_until_gone(0.5)


SIT_DOWN = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class InTerminal(Server):
    """A server launched by somebody who sits at a terminal."""

    def __init__(self, state: Path, port: int, terminal: int) -> None:
        launch = [MLXSERVE, "launch", "--detach", "-n", "2", "--model", "demo", "--port", str(port)]
        at_it = f"exec {' '.join(launch)} > /dev/tty 2>&1"
        command = [sys.executable, "-c", SIT_DOWN, "/bin/bash", "-c", at_it]
        super().__init__(command, port, {"XDG_STATE_HOME": str(state)}, stdin=terminal)


def test_what_does_not_come_up_is_ended_with_its_reason(own: Own, tmp_path: Path) -> None:
    server = own(detach(tmp_path, free_port(), model="./none.gguf"))
    assert server.exit_code(60) == 2
    assert "none.gguf" in server.output
    assert "ended with exit code 2" in server.output
    server.wait_until_gone(0.5)


def test_ctrl_c_before_it_serves_ends_what_was_started(own: Own, tmp_path: Path) -> None:
    server = own(detach(tmp_path, free_port()))
    deadline = time.monotonic() + 30
    while "waits for the others" not in server.output:
        assert time.monotonic() < deadline, server.output
        time.sleep(0.02)
    server.process.send_signal(signal.SIGINT)
    assert server.exit_code(SOON) == 130
    server.wait_until_gone(0.5)


MINIS = ("mini-1", "mini-2")
ASK = "import httpx; print(httpx.get('http://127.0.0.1:8100/health').json()['status'])"


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    """Two hosts with mlxserve in their homes, joined by a cable for the ring and by another for ssh."""
    with Bed(tmp_path) as bed:
        bed.add(*MINIS, python=True)
        bed.join(*MINIS, "192.168.5.0/30", "thunderbolt0")
        for name in MINIS:
            install(bed[name])
        bed.write_hostfile("mini-1", *MINIS)
        yield bed


def test_over_two_hosts_it_outlives_every_session_and_takes_back_a_host_that_was_away(bed: Bed) -> None:
    launching = ["./mlxserve", "launch", "--detach", "--hostfile", "hosts.json", "--model", "demo"]
    launched = bed["mini-1"].run(launching, timeout=120)
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert "[mini-2] process " in launched.stdout
    for name, rank in zip(MINIS, range(2), strict=True):
        assert f", log {HOME}/.local/state/mlxserve/8100-rank{rank}/log" in launched.stdout
        assert bed[name].processes()
    for name in MINIS:
        wait_until_alone(bed[name])
    wait_for(bed, "healthy")

    kill_all(bed["mini-2"].processes())
    wait_for(bed, "recovering")
    again = bed["mini-1"].run(launching, timeout=120)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "[mini-1] runs already: process " in again.stdout
    assert "[mini-2] process " in again.stdout
    wait_for(bed, "healthy")

    stopped = bed["mini-1"].run(["./mlxserve", "launch", "--stop", "--hostfile", "hosts.json"], timeout=60)
    assert stopped.returncode == 0
    assert told_to_end(stopped.stderr) == {*MINIS}
    for name in MINIS:
        bed[name].wait_until_idle(0.5)


def test_a_launcher_that_stays_finds_each_host_again_and_ends_all_in_the_end(bed: Bed) -> None:
    with (bed["mini-1"].home / "kept").open("wb") as output:
        keeping = bed["mini-1"].popen(
            ["./mlxserve", "launch", "--keep", "--hostfile", "hosts.json", "--model", "demo"],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    wait_for(bed, "healthy")
    kill_all(sessions(bed["mini-2"]))
    wait_for_words(bed, "mini-2 was not reached or was lost")
    wait_for_words(bed, "[mini-2] runs already: process ")
    assert health(bed) == "healthy"

    kill_all(bed["mini-2"].processes())
    wait_for(bed, "recovering")
    wait_for(bed, "healthy")
    assert keeping.poll() is None

    keeping.send_signal(signal.SIGTERM)
    assert keeping.wait(SOON) == 0
    for name in MINIS:
        bed[name].wait_until_idle(0.5)


def test_a_killed_launcher_that_stays_is_followed_by_another(bed: Bed) -> None:
    command = ["./mlxserve", "launch", "--keep", "--hostfile", "hosts.json", "--model", "demo"]
    first = bed["mini-1"].popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(bed, "healthy")
    first.kill()
    with (bed["mini-1"].home / "kept").open("wb") as output:
        second = bed["mini-1"].popen(command, stdout=output, stderr=subprocess.STDOUT)
    for name in MINIS:
        wait_for_words(bed, f"[{name}] runs already: process ")
    assert health(bed) == "healthy"
    second.send_signal(signal.SIGINT)
    assert second.wait(SOON) == 0
    for name in MINIS:
        bed[name].wait_until_idle(0.5)


def sessions(host: Host) -> list[int]:
    """The processes of sshd that serve whoever has logged in at the host."""
    namespace = os.readlink(f"/proc/{host.pid}/ns/pid_for_children")
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_text()
            if os.readlink(folder / "ns" / "pid") == namespace and line.startswith("sshd") and "listener" not in line:
                found.append(int(folder.name))
    return found


def wait_for_words(bed: Bed, words: str) -> None:
    deadline = time.monotonic() + 30
    while words not in (said := (bed["mini-1"].home / "kept").read_text()):
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


def wait_until_alone(host: Host) -> None:
    """Wait until a host runs the rank alone: its node and its engine."""
    deadline = time.monotonic() + 2
    while others := [line for line in host.processes().values() if " serve " not in line and " engine " not in line]:
        assert time.monotonic() < deadline, others
        time.sleep(0.05)


def health(bed: Bed) -> str:
    """What /health on mini-1 says; empty while nobody listens."""
    return bed["mini-1"].run([sys.executable, "-c", ASK]).stdout.strip()


def wait_for(bed: Bed, status: str) -> None:
    deadline = time.monotonic() + 60
    while (said := health(bed)) != status:
        assert time.monotonic() < deadline, said
        time.sleep(0.2)
