"""What a new build's first start removes of older builds, and what it leaves alone."""

from __future__ import annotations

import fcntl
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlxserve import unpacked

OLD, NEW, NEWER = "0" * 12, "1" * 12, "2" * 12


def build(builds: Path, name: str, age: float, used_before: float) -> Path:
    """An unpacked build, `age` seconds old, last started `used_before` seconds ago."""
    folder = builds / name
    (folder / "_internal").mkdir(parents=True)
    (folder / "used").touch()
    now = time.time()
    os.utime(folder / "used", (now, now - used_before))
    os.utime(folder, (now, now - age))
    return folder


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return build(tmp_path, NEW, age=60, used_before=0)


def test_an_older_build_that_nobody_uses_is_removed(tmp_path: Path, new: Path) -> None:
    build(tmp_path, OLD, age=3600, used_before=60)
    unpacked.remove_outdated(new)
    assert os.listdir(tmp_path) == [NEW]


def test_an_older_build_stays_while_a_process_holds_it(tmp_path: Path, new: Path) -> None:
    old = build(tmp_path, OLD, age=3600, used_before=60)
    holder = "import sys; from pathlib import Path; from mlxserve import unpacked; unpacked.hold(Path(sys.argv[1])); "
    process = subprocess.Popen(
        [sys.executable, "-c", holder + "print('held', flush=True); sys.stdin.read()", str(old)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stdout.readline() == b"held\n"
    unpacked.remove_outdated(new)
    assert old.exists()
    process.kill()
    process.communicate()
    unpacked.remove_outdated(new)
    assert not old.exists()


def test_a_build_that_is_just_starting_is_left_alone(tmp_path: Path, new: Path) -> None:
    old = build(tmp_path, OLD, age=3600, used_before=1)
    unpacked.remove_outdated(new)
    assert old.exists()


def test_a_newer_build_is_left_alone(tmp_path: Path, new: Path) -> None:
    newer = build(tmp_path, NEWER, age=5, used_before=60)
    unpacked.remove_outdated(new)
    assert newer.exists()


def test_what_a_dead_process_was_unpacking_is_removed_and_a_living_ones_is_not(tmp_path: Path, new: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    names = [f".unpacking-{platform.node()}-{dead.pid}-Ab3xyz", f".unpacking-{platform.node()}-{os.getpid()}-Ab3xyz"]
    names.append(f".unpacking-another-host-{dead.pid}-Ab3xyz")
    for name in names:
        (tmp_path / name / NEW).mkdir(parents=True)
    unpacked.remove_outdated(new)
    assert sorted(os.listdir(tmp_path)) == sorted([NEW, *names[1:]])


def test_nothing_is_removed_beside_a_folder_that_is_no_unpacked_build(tmp_path: Path) -> None:
    old = build(tmp_path, OLD, age=3600, used_before=60)
    unpacked.remove_outdated(build(tmp_path, "mlxserve", age=1, used_before=0))
    assert old.exists()


def test_a_folder_without_a_mark_of_use_can_be_held(tmp_path: Path) -> None:
    unpacked.hold(tmp_path)


def test_two_processes_hold_one_build(new: Path) -> None:
    with (new / "used").open() as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        unpacked.hold(new)
