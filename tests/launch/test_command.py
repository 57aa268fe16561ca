"""Which program the hosts run, and how its path is written for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlxserve.launch.command import anywhere, program, quoted


def read_there(path: str, home: str) -> str:
    """What a host's bash makes of the path."""
    script = f'command=({quoted(path)}); printf %s "${{command[0]}}"'
    return subprocess.run(["bash", "-c", script], env={"HOME": home}, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/home/anna/mlxserve", "/home/bob/mlxserve"),
        ("/home/anna/it's $HOME/mlxserve", "/home/bob/it's $HOME/mlxserve"),
        ("~/mlxserve", "/home/bob/mlxserve"),
        ("~", "/home/bob"),
        ("/home/annabel/mlxserve", "/home/annabel/mlxserve"),
        ("/opt/~/mlx serve", "/opt/~/mlx serve"),
        ("~$(id)/mlxserve", "~$(id)/mlxserve"),
        ("mlxserve", "mlxserve"),
    ],
)
def test_a_home_folder_is_that_of_the_hosts_user(monkeypatch: pytest.MonkeyPatch, path: str, there: str) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert read_there(path, "/home/bob") == there


def test_without_a_home_of_its_own_a_user_has_no_paths_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    assert anywhere("/opt/mlxserve") == "/opt/mlxserve"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without an account")
def test_a_user_without_an_account_is_not_the_one_that_a_host_names() -> None:
    unnamed = "import os; from mlxserve.launch.command import is_here; from mlxserve.launch.hostfile import Host\n" + (
        "os.environ.clear(); os.setuid(54321); print(is_here(Host('anna@127.0.0.1')), is_here(Host('127.0.0.1')))"
    )
    output = subprocess.run([sys.executable, "-c", unnamed], capture_output=True, text=True, check=True).stdout
    assert output == "False True\n"


def test_a_named_program_is_a_path_or_a_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert program("bin/mlxserve") == [f"{tmp_path}/bin/mlxserve"]
    assert program("~/mlxserve") == ["~/mlxserve"]
    assert program("mlxserve") == ["mlxserve"]
    (tmp_path / "mlxserve").touch()
    assert program("mlxserve") == [f"{tmp_path}/mlxserve"]
