"""A service under a systemd that really runs it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mlxserve.service.job import Job
from mlxserve.service.systemd import Systemd
from tests.service.booted import Booted, booted
from tests.system.server import MLXSERVE

REPORT = """\
#!/bin/bash
printf '%s\\0' "$@" > words
env -0 > environment
trap 'exit 0' TERM
while sleep 0.05; do touch running; done
"""
LAUNCH = ("launch", "-n", "2", "--model", "demo")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with booted(tmp_path_factory.mktemp("booted")) as machine:
        yield machine


def test_a_service_is_installed_seen_to_run_and_removed(machine: Booted, tmp_path: Path) -> None:
    folder = tmp_path / "100 % of it"
    folder.mkdir()
    installed = machine.run(MLXSERVE, "service", "install", *LAUNCH, cwd=folder, XDG_CACHE_HOME=str(tmp_path))
    assert (installed.returncode, installed.stderr) == (0, "")
    assert installed.stdout.startswith("mlxserve: installed, and started\n")
    assert machine.run("systemctl", "is-enabled", "mlxserve").stdout == "enabled\n"

    status = machine.run(MLXSERVE, "service", "status")
    assert status.returncode == 0
    assert status.stdout.startswith("mlxserve: running since ")
    process = status.stdout.split("process ")[1].split(",")[0]
    assert machine.run("readlink", f"/proc/{process}/cwd").stdout.strip() == str(folder)

    removed = machine.run(MLXSERVE, "service", "remove")
    assert (removed.returncode, removed.stdout) == (0, "mlxserve: stopped, and removed\n")
    status = machine.run(MLXSERVE, "service", "status")
    assert (status.returncode, status.stdout) == (1, "mlxserve: not installed\n")
    assert machine.run("pgrep", "-f", "mlxserve launch").returncode == 1


def test_a_service_that_fails_is_tried_again_and_status_tells(machine: Booted, tmp_path: Path) -> None:
    machine.run(MLXSERVE, "service", "install", "--name", "bad", "serve", "--model", "./none.gguf", cwd=tmp_path)
    deadline = time.monotonic() + 30
    while "waiting" not in (status := machine.run(MLXSERVE, "service", "status", "--name", "bad")).stdout:
        assert time.monotonic() < deadline, status.stdout
    assert status.returncode == 1
    assert "waiting to be started again: last ended with exit code 2" in status.stdout
    assert machine.run(MLXSERVE, "service", "remove", "--name", "bad").returncode == 0


def test_removing_what_is_not_installed_is_no_mistake(machine: Booted) -> None:
    removed = machine.run(MLXSERVE, "service", "remove")
    assert removed.returncode == 0
    assert removed.stdout == "mlxserve: not installed (/etc/systemd/system/mlxserve.service does not exist)\n"


def test_every_word_the_folder_and_the_environment_are_as_they_were_meant(
    machine: Booted, job: Job, tmp_path: Path
) -> None:
    program = tmp_path / "my program %h $HOME"
    program.write_text(REPORT)
    program.chmod(0o755)
    job = msgspec.structs.replace(job, user="root", command=(str(program), *job.command[1:]))
    unit = Systemd(is_system=True)
    written = machine.run("tee", str(unit.file(job.name)), input=unit.content(job).decode())
    assert written.returncode == 0
    started = machine.run("systemctl", "start", job.name)
    assert (started.returncode, started.stderr) == (0, "")
    deadline = time.monotonic() + 10
    while not (Path(job.folder) / "running").exists():
        assert time.monotonic() < deadline, machine.run("systemctl", "status", job.name).stdout
        time.sleep(0.02)
    assert (Path(job.folder) / "words").read_text().split("\0")[:-1] == list(job.command[1:])
    environment = (Path(job.folder) / "environment").read_text().split("\0")
    assert {f"{name}={value}" for name, value in job.environment.items()} <= set(environment)
    assert machine.run("systemctl", "stop", job.name).returncode == 0
