"""The binary on two hosts without Python, as users have it: copied there, started by one command, asked from afar."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlxserve.models.demo import demo_file
from tests.system import made_before
from tests.system.hosts import HOME, Bed, Host, two_minis
from tests.system.server import MLX_LAUNCH

MINIS = ("mini-1", "mini-2")
ONE_THREAD = ["OPENBLAS_NUM_THREADS=1"]
"""The hosts do not know that they share this machine's cores."""
START_SECONDS = 120.0
ASK = """
import json, sys
import httpx, openai
url, model = sys.argv[1:]
client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)
question = [{"role": "user", "content": "What is the capital of France?"}]
chunks = client.chat.completions.create(model=model, messages=question, temperature=0, max_tokens=20, stream=True)
pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
print(json.dumps({"pieces": pieces, "health": httpx.get(f"{url}/health", timeout=10).json()}))
"""


class Running:
    """A command that serves on mini-1."""

    def __init__(self, host: Host, command: Sequence[str], log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = host.popen(command, stdout=output, stderr=subprocess.STDOUT)

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while "serving at" not in self.output:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.output}"
            assert time.monotonic() < deadline, f"not ready after {START_SECONDS} s:\n{self.output}"
            time.sleep(0.05)

    def interrupt(self) -> int:
        """Press Ctrl-C; returns the exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running 15 s after Ctrl-C:\n{self.output}") from None


@contextmanager
def running(bed: Bed, *command: str) -> Iterator[Running]:
    """A command started on mini-1, and ready; killed at the end where it still runs."""
    started = Running(bed["mini-1"], command, bed["mini-1"].home / "log")
    try:
        started.wait_until_ready()
        yield started
    finally:
        started.process.kill()
        started.process.wait()


def copy_to(bed: Bed, names: Sequence[str], *files: Path) -> None:
    for name in names:
        for file in files:
            shutil.copy(file, bed[name].home / file.name)


def asked(bed: Bed) -> dict[str, Any]:
    """What the third host's openai client was answered, in `pieces`, and /health."""
    url = f"http://{bed['mini-1'].addresses['client']}:8100"
    answer = bed["client"].run([sys.executable, "-c", ASK, url, demo_file().stem], check=True, timeout=90)
    return dict(json.loads(answer.stdout))


def assert_serves_on_both(bed: Bed) -> None:
    answer = asked(bed)
    assert "".join(answer["pieces"]) == "The capital of France is Paris."
    assert len(answer["pieces"]) > 3
    ranks = answer["health"]["ranks"]
    assert [rank["host"] for rank in ranks] == [*MINIS]
    assert [ranks[0]["layers"][0], ranks[1]["layers"][1]] == [0, 29]
    assert ranks[1]["layers"][0] == ranks[0]["layers"][1] + 1
    assert all(rank["memory_gb"] > 0 for rank in ranks)


@pytest.fixture(scope="module")
def ready(minis: Bed, binary: Path) -> Bed:
    """Two hosts that have the binary, the model and a hosts file in their users' homes."""
    copy_to(minis, MINIS, binary, demo_file())
    minis.write_hostfile("mini-1", *MINIS, envs=ONE_THREAD)
    return minis


def test_there_is_no_python_on_the_hosts(ready: Bed) -> None:
    for name in MINIS:
        found = ready[name].run(["bash", "-c", "command -v python python3; ls /usr/bin/python3 && /usr/bin/python3 -V"])
        assert found.returncode != 0
        assert not found.stdout.replace("/usr/bin/python3", "").strip()
    over_ssh = ready["mini-1"].run(["ssh", "mini-2", "command -v python python3"])
    assert (over_ssh.returncode, over_ssh.stdout) == (1, "")


def test_one_command_serves_on_both_hosts_until_ctrl_c(ready: Bed) -> None:
    model = f"./{demo_file().name}"
    command = ("./mlxserve", "launch", "--hostfile", "hosts.json", "--model", model, "--host", "0.0.0.0")
    with running(ready, *command) as launch:
        assert_serves_on_both(ready)
        assert all(ready[name].processes() for name in MINIS)
        assert launch.interrupt() == 0, launch.output
    for name in MINIS:
        ready[name].wait_until_idle()


def test_deploy_gives_the_binary_to_the_host_that_lacks_it(ready: Bed) -> None:
    there = ready["mini-2"].home / "mlxserve"
    there.unlink()
    model = f"./{demo_file().name}"
    command = ("./mlxserve", "launch", "--deploy", "--hostfile", "hosts.json", "--model", model, "--host", "0.0.0.0")
    with running(ready, *command) as launch:
        assert_serves_on_both(ready)
        assert launch.interrupt() == 0, launch.output
    assert there.read_bytes() == (ready["mini-1"].home / "mlxserve").read_bytes()
    for name in MINIS:
        ready[name].wait_until_idle()


def test_detached_ranks_go_on_without_the_command_until_they_are_stopped(ready: Bed) -> None:
    model = f"./{demo_file().name}"
    hosts = ["--hostfile", "hosts.json"]
    launched = ready["mini-1"].run(
        ["./mlxserve", "launch", "--detach", *hosts, "--model", model, "--host", "0.0.0.0"], timeout=START_SECONDS
    )
    assert launched.returncode == 0, launched.stdout + launched.stderr
    assert_serves_on_both(ready)
    stopped = ready["mini-1"].run(["./mlxserve", "launch", "--stop", *hosts])
    assert stopped.returncode == 0, stopped.stderr
    for name in MINIS:
        ready[name].wait_until_idle()


def test_check_finds_nothing_against_the_two_hosts(ready: Bed) -> None:
    done = ready["mini-1"].run(["./mlxserve", "check", "--hostfile", "hosts.json"], timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert all(name in done.stdout for name in MINIS)
    for name in MINIS:
        ready[name].wait_until_idle()


def test_a_service_would_start_the_file_itself_and_not_what_it_unpacked(ready: Bed) -> None:
    shown = ready["mini-1"].run(["./mlxserve", "service", "install", "--print", "launch", "--hostfile", "hosts.json"])
    assert shown.returncode == 0, shown.stderr
    assert f'ExecStart=:"{HOME}/mlxserve" "launch" "--hostfile" "hosts.json" "--keep"\n' in shown.stdout


def test_mlx_launch_starts_the_binary_as_well(ready: Bed, tmp_path: Path, binary: Path) -> None:
    """On hosts which had it unpacked before."""
    with two_minis(tmp_path, python=("mini-1", "client")) as bed:
        copy_to(bed, MINIS, binary, demo_file())
        for name in MINIS:
            made_before.link(ready[name].home / ".cache", bed[name].home / ".cache")
        bed.write_hostfile("mini-1", *MINIS, envs=ONE_THREAD)
        serve = (f"{HOME}/mlxserve", "serve", "--model", f"{HOME}/{demo_file().name}", "--host", "0.0.0.0")
        with running(bed, MLX_LAUNCH, "--hostfile", "hosts.json", "--", *serve) as launch:
            assert_serves_on_both(bed)
            launch.interrupt()
        for name in MINIS:
            bed[name].wait_until_idle(10)
