"""The unit, read by systemd itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from mlxserve.errors import UserError
from mlxserve.service.job import Job
from mlxserve.service.systemd import Systemd


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that any user can read."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def verified(unit: bytes, folder: Path) -> str:
    """What systemd-analyze has to say of the unit."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    file = folder / "mlxserve-test.service"
    file.write_bytes(unit)
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True)
    return done.stdout + done.stderr


@pytest.mark.parametrize("is_system", [True, False])
def test_systemd_has_nothing_to_say_against_the_unit(job: Job, folder: Path, is_system: bool) -> None:
    assert verified(Systemd(is_system).content(job), folder) == ""


def test_the_verdict_is_not_always_good(job: Job, folder: Path) -> None:
    broken = Systemd(True).content(job).replace(b"Restart=always", b"Restart=sometimes")
    assert "Failed to parse service restart specifier" in verified(broken, folder)


def test_a_unit_of_the_system_runs_as_its_user_once_the_network_is_up(job: Job) -> None:
    unit = Systemd(True).content(job).decode().splitlines()
    assert {"User=daemon", "After=network-online.target", "WantedBy=multi-user.target"} <= set(unit)


def test_a_unit_of_a_user_names_nothing_that_its_manager_does_not_have(job: Job) -> None:
    unit = Systemd(False).content(job).decode()
    assert "User=" not in unit
    assert "network-online" not in unit
    assert "WantedBy=default.target" in unit


def test_a_program_with_a_space_in_its_path_is_found(job: Job, folder: Path) -> None:
    program = folder / "my programs" / "mlxserve 100%"
    program.parent.mkdir()
    shutil.copy("/bin/true", program)
    spaced = msgspec.structs.replace(job, command=(str(program), "serve"))
    assert verified(Systemd(True).content(spaced), folder) == ""


@pytest.mark.parametrize("letter", ['"', "'", "\\"])
def test_a_program_whose_path_systemd_does_not_take_is_refused(job: Job, letter: str) -> None:
    with pytest.raises(UserError, match="move /opt/it"):
        Systemd(True).content(msgspec.structs.replace(job, command=(f"/opt/it{letter}s/mlxserve", "serve")))
