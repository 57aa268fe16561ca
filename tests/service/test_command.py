"""`mlxserve service` as it is typed, where nothing is installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlxserve.service.job import job_for
from mlxserve.service.systemd import BOOTED
from tests.launch.conftest import shut  # noqa: F401
from tests.system.server import MLXSERVE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="shows units of systemd")
LAUNCH = ("launch", "--hostfile", "hosts.json", "--model", "demo")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    hosts = [{"ssh": "mini-1", "ips": ["192.168.5.1"]}, {"ssh": "mini-2", "ips": ["192.168.5.2"]}]
    (tmp_path / "hosts.json").write_text(json.dumps(hosts))
    return tmp_path


def service(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MLXSERVE, "service", *words], cwd=folder, env=os.environ | environment, capture_output=True, text=True
    )


def test_print_shows_the_file_and_where_it_goes_and_writes_nothing(folder: Path) -> None:
    shown = service(folder, "install", "--print", *LAUNCH, HOME=str(folder), XDG_CONFIG_HOME="")
    assert shown.returncode == 0
    place = Path(shown.stderr.removeprefix("# ").strip())
    assert place.is_absolute()
    assert place.name == "mlxserve.service"
    assert not place.exists()
    assert f'ExecStart=:"{MLXSERVE}" "launch" "--hostfile" "hosts.json" "--model" "demo" "--keep"\n' in shown.stdout
    assert f"WorkingDirectory={folder}/\n" in shown.stdout


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ((*LAUNCH, "--keep"), True),
        (("launch", "-n", "2"), False),
        ((*LAUNCH, "--backend", "mpi"), False),
        (("serve",), False),
    ],
)
def test_a_launch_over_ssh_keeps_what_it_has_started(folder: Path, words: tuple[str, ...], kept: bool) -> None:
    shown = service(folder, "install", "--print", *words)
    assert shown.returncode == 0
    assert shown.stdout.count('"--keep"') == kept


def test_the_command_may_stand_behind_two_dashes(folder: Path) -> None:
    plain, dashed = (service(folder, "install", "--print", *dashes, *LAUNCH) for dashes in ((), ("--",)))
    assert plain.stdout == dashed.stdout != ""


@pytest.mark.parametrize(("words", "seconds"), [((), 45), (("--drain-seconds", "120.5"), 136)])
def test_a_service_is_given_the_time_to_end_that_its_answers_are_given(
    folder: Path, words: tuple[str, ...], seconds: int
) -> None:
    shown = service(folder, "install", "--print", *LAUNCH, *words)
    assert f"\nTimeoutStopSec={seconds}\n" in shown.stdout


def test_where_models_are_is_kept_and_secrets_are_not(folder: Path) -> None:
    shown = service(folder, "install", "--print", "serve", HF_HOME="/models", HF_TOKEN="hf_secret")
    assert '"HF_HOME=/models"' in shown.stdout
    assert "hf_secret" not in shown.stdout


def test_where_this_user_may_not_look_nothing_is_installed(shut: Path) -> None:  # noqa: F811
    unprivileged = "import os, sys; from mlxserve.__main__ import run; from mlxserve.service import command\n" + (
        "os.geteuid() or os.setuid(54321); sys.exit(run(['service', 'status', '--name', 'nothing']))"
    )
    environment = os.environ | {"XDG_CONFIG_HOME": str(shut)}
    done = subprocess.run([sys.executable, "-c", unprivileged], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "mlxserve-nothing: not installed\n", "")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without an account")
def test_a_user_without_an_account_is_told(folder: Path) -> None:
    homeless = "import os, sys; from mlxserve.__main__ import run; from mlxserve.service import command\n" + (
        "os.setuid(54321); sys.exit(run(['service', 'install', '--print', 'serve']))"
    )
    done = subprocess.run([sys.executable, "-c", homeless], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == (
        "mlxserve: error: a service needs a user that has an account, but 54321 has none on this machine\n"
    )


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    gone = ["bash", "-c", 'cd "$0"; rmdir "$0"; exec "$@"', str(tmp_path / "gone")]
    (tmp_path / "gone").mkdir()
    done = subprocess.run([*gone, MLXSERVE, "service", "install", "serve"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "error: the folder that this runs in cannot be used (No such file or directory): change to" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="sudo makes root of its user")
def test_with_sudo_it_runs_as_who_called_it() -> None:
    job = job_for("", ["serve"], {"SUDO_USER": "nobody"})
    assert (job.user, job.environment["USER"], job.environment["HOME"]) == ("nobody", "nobody", job.home)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((), "say what the service runs: `mlxserve service install launch --hostfile"),
        (("check",), "say what the service runs"),
        (("launch", "--model", "demo"), "name the hosts with --hostfile hosts.json"),
        (("launch", "--hostfile", "nowhere.json"), "nowhere.json doesn't exist"),
        (("launch", "--hostfile", "hosts.json", "--split", "10,10,10"), "--split names layers for 3 ranks, but there"),
        (("launch", "-n", "2", "--modle", "demo"), "unrecognized arguments: --modle"),
        (("serve", "--port", "99999"), "--port: must be a whole number from 0 to 65535"),
        (("serve", "--api-key", "sk-it"), "put keys into a file of your own, and name that with --api-key-file"),
        (("launch", "-n", "2", "--detach"), "a service keeps its command running itself: leave --detach and"),
        (("--name", "../etc", "serve"), "--name '../etc' must be of letters"),
        pytest.param(
            ("serve",), "systemd does not run this machine", marks=pytest.mark.skipif(BOOTED.exists(), reason="it does")
        ),
    ],
)
def test_a_mistake_is_told_and_nothing_is_installed(folder: Path, words: tuple[str, ...], sentence: str) -> None:
    done = service(folder, "install", *words, XDG_CONFIG_HOME=str(folder / "config"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("mlxserve: error: ")
    assert sentence in done.stderr
    assert not (folder / "config").exists()
