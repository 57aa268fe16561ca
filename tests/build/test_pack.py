"""The self-extracting file around a small application: what it does at its first start, and what cannot go wrong."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACK = Path(__file__).parents[2] / "build" / "pack.py"
PROGRAM = """\
#!/bin/sh
echo "$$|$0|$MLXSERVE_FILE|$#|$2"
PATH=/usr/bin:/bin
case $1 in exit) exit 7 ;; wait) trap 'echo ended; exit 0' TERM; echo waiting; while :; do sleep 0.05; done ;; esac
"""
SHELLS = [shell for shell in ("sh", "bash", "dash", "zsh") if shutil.which(shell)]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, which takes root")


class Machine:
    """A packed file, and a home folder to start it in."""

    def __init__(self, folder: Path, file: Path) -> None:
        self.folder = folder
        self.file = file
        self.environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder / "home"), "TMPDIR": str(folder / "tmp")}
        for name in ("home", "tmp", "bin"):
            (folder / name).mkdir()

    @property
    def builds(self) -> Path:
        return self.folder / "home" / ".cache" / "mlxserve" / "builds"

    @property
    def build(self) -> str:
        line = self.file.read_bytes().split(b"\nbuild=")[1].splitlines()[0]
        return line.decode()

    @property
    def app(self) -> Path:
        return self.builds / self.build / "mlxserve"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp" / f"mlxserve-{os.getuid()}"

    def popen(self, *arguments: str, shell: str | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*([shell] if shell else []), str(self.file), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, shell: str | None = None) -> subprocess.CompletedProcess[str]:
        process = self.popen(*arguments, shell=shell)
        output, complaint = process.communicate(timeout=30)
        return subprocess.CompletedProcess([str(process.pid)], process.returncode, output, complaint)

    def replace_tool(self, name: str, script: str) -> None:
        """Put a program of this name first on the PATH."""
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        self.environment["PATH"] = f"{self.folder / 'bin'}:/usr/bin:/bin"

    def restore_tools(self) -> None:
        self.environment["PATH"] = "/usr/bin:/bin"


def packed(folder: Path, content: bytes = b"payload") -> Path:
    """A self-extracting file of an application that prints how it was started."""
    application = folder / "application"
    (application / "_internal").mkdir(parents=True)
    (application / "mlxserve").write_text(PROGRAM)
    (application / "mlxserve").chmod(0o755)
    (application / "_internal" / "library").write_bytes(content)
    (application / "_internal" / "link").symlink_to("library")
    file = folder / "mlxserve"
    subprocess.run([sys.executable, PACK, application, file, "--oldest", "1.0"], check=True)
    return file


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, packed(tmp_path))


@pytest.fixture
def mounted(machine: Machine) -> Iterator[Machine]:
    """A machine whose home folder is a file system of its own, to be mounted by the test."""
    yield machine
    subprocess.run(["umount", machine.folder / "home"], check=False)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_first_start_unpacks_and_every_later_one_starts_what_it_unpacked(machine: Machine, shell: str) -> None:
    first, second = (machine.run("one", "two words", shell=shell) for _ in range(2))
    for start in (first, second):
        assert start.returncode == 0
        pid, program, file, count, word = start.stdout.strip().split("|")
        assert (program, file, count, word) == (str(machine.app), str(machine.file), "2", "two words")
        assert pid == start.args[0]  # the very process that was started
    assert f"first start: unpacking into {machine.builds / machine.build}" in first.stderr
    assert second.stderr == ""
    assert os.listdir(machine.builds) == [machine.build]
    assert (machine.builds / machine.build / "_internal" / "link").read_bytes() == b"payload"


def test_exit_codes_and_signals_are_the_applications_own(machine: Machine) -> None:
    assert machine.run("exit").returncode == 7
    process = machine.popen("wait")
    assert process.stdout
    assert [process.stdout.readline() for _ in range(2)][1] == "waiting\n"
    process.terminate()
    assert process.stdout.readline() == "ended\n"
    assert process.wait(10) == 0


def test_it_starts_through_a_relative_path_a_link_and_the_search_path(machine: Machine) -> None:
    (machine.folder / "bin" / "served").symlink_to(machine.file)
    search = machine.environment | {"PATH": f"{machine.folder / 'bin'}:/usr/bin:/bin"}
    for command, file in (("./mlxserve", f"{machine.folder}/./mlxserve"), ("served", f"{machine.folder}/bin/served")):
        line = subprocess.run(
            ["sh", "-c", command], cwd=machine.folder, env=search, capture_output=True, text=True, check=True
        ).stdout
        assert line.split("|")[2] == file


def test_first_starts_at_the_same_moment_all_succeed_and_leave_one_folder(machine: Machine) -> None:
    processes = [machine.popen() for _ in range(6)]
    for process in processes:
        output, complaint = process.communicate(timeout=30)
        assert process.returncode == 0, complaint
        assert output.split("|")[1] == str(machine.app)
    assert os.listdir(machine.builds) == [machine.build]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_first_start_that_was_ended_half_way_does_not_hinder_the_next(machine: Machine, number: int) -> None:
    reached = machine.folder / "reached"
    os.mkfifo(reached)
    machine.replace_tool("tar", f"echo > {reached}; exec sleep 60")
    process = machine.popen()
    reached.read_text()  # it is unpacking
    os.killpg(process.pid, number)
    assert process.wait(10) != 0
    machine.restore_tools()
    assert machine.run().stdout.split("|")[1] == str(machine.app)
    left = [name for name in os.listdir(machine.builds) if name != machine.build]
    assert len(left) == (number == signal.SIGKILL), "only SIGKILL leaves rubbish, which the application removes"


def test_a_cache_that_cannot_be_written_gives_way_to_a_temporary_folder(machine: Machine) -> None:
    (machine.folder / "home" / ".cache").write_text("in the way")
    first, second = machine.run(), machine.run()
    assert first.stdout.split("|")[1] == str(machine.temporary / machine.build / "mlxserve")
    assert f"{machine.builds} cannot be used: unpacking into {machine.temporary}" in first.stderr
    assert (second.returncode, second.stderr) == (0, "")
    assert machine.temporary.stat().st_mode & 0o777 == 0o700


def test_the_cache_is_used_again_as_soon_as_it_can_be(machine: Machine) -> None:
    (machine.folder / "home" / ".cache").write_text("in the way")
    machine.run()
    (machine.folder / "home" / ".cache").unlink()
    assert machine.run().stdout.split("|")[1] == str(machine.app)


def test_a_user_without_a_home_folder_is_served_from_the_temporary_folder(machine: Machine) -> None:
    del machine.environment["HOME"]
    assert machine.run().stdout.split("|")[1] == str(machine.temporary / machine.build / "mlxserve")


def test_the_cache_is_where_xdg_cache_home_says(machine: Machine) -> None:
    machine.environment["XDG_CACHE_HOME"] = str(machine.folder / "elsewhere")
    assert machine.run().stdout.split("|")[1] == str(
        machine.folder / "elsewhere" / "mlxserve" / "builds" / machine.build / "mlxserve"
    )


@as_root
def test_root_puts_nothing_into_the_home_of_a_user_whose_environment_it_has(machine: Machine) -> None:
    home = machine.folder / "home"
    os.chown(home, 12345, 12345)
    own = Path("~root").expanduser() / ".cache" / "mlxserve" / "builds" / machine.build
    try:
        assert machine.run().stdout.split("|")[1] == str(own / "mlxserve")
        assert list(home.iterdir()) == []
    finally:
        shutil.rmtree(own)


@as_root
def test_what_another_user_put_into_the_temporary_folder_is_not_run(machine: Machine) -> None:
    (machine.folder / "home" / ".cache").write_text("in the way")
    assert machine.run().returncode == 0
    os.chown(machine.temporary, 12345, 12345)
    start = machine.run()
    assert start.returncode == 3
    assert start.stdout == ""
    assert f"nor can {machine.temporary}" in start.stderr


@as_root
def test_a_cache_from_which_no_program_may_run_gives_way_to_a_temporary_folder(mounted: Machine) -> None:
    home = mounted.folder / "home"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "none", home], check=True)
    assert mounted.run().stdout.split("|")[1] == str(mounted.temporary / mounted.build / "mlxserve")
    assert os.listdir(mounted.builds) == []


@as_root
def test_a_full_disk_is_named_with_what_is_needed_and_what_is_free(mounted: Machine) -> None:
    home = mounted.folder / "home"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", home], check=True)
    start = mounted.run()
    assert start.returncode == 3
    assert f"the disk of {home} is full: unpacking takes 2 MiB and 0 are free" in start.stderr
    assert list(home.iterdir()) == []


@as_root
def test_a_disk_that_fills_up_while_unpacking_ends_the_start_with_tars_complaint(tmp_path: Path) -> None:
    machine = Machine(tmp_path, packed(tmp_path, os.urandom(300_000)))
    machine.replace_tool("df", "printf 'Filesystem\\nx 9 9 999999 9 9\\n'")
    home = tmp_path / "home"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "none", home], check=True)
    try:
        start = machine.run()
        assert start.returncode == 3
        assert f"cannot unpack into {machine.builds} (is its disk full?): tar: " in start.stderr
        assert os.listdir(machine.builds) == []
    finally:
        subprocess.run(["umount", home], check=True)


def test_a_file_that_is_cut_within_its_script_does_nothing_and_fails(machine: Machine) -> None:
    content = machine.file.read_bytes()
    script = content.index(b"\x1f\x8b")
    for end in range(200, script - 1, 97):
        machine.file.write_bytes(content[:end])
        start = machine.run()
        assert start.returncode != 0, end
        assert start.stdout == ""
    assert not machine.builds.exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_it_starts_without_a_search_path_and_with_closed_streams(machine: Machine, shell: str) -> None:
    machine.environment["PATH"] = ""
    assert machine.run(shell=shutil.which(shell)).returncode == 0
    command = f"{shutil.which(shell)} {machine.file} one 2>&- <&-"
    start = subprocess.run(["/bin/sh", "-c", command], env=machine.environment, stdout=subprocess.PIPE, text=True)
    assert start.stdout.split("|")[1] == str(machine.app)


@pytest.mark.parametrize("place", ["payload", "script", "end"])
def test_a_damaged_file_is_not_unpacked(machine: Machine, place: str) -> None:
    content = bytearray(machine.file.read_bytes())
    if place == "end":
        del content[-10:]
    else:
        content[-20 if place == "payload" else content.index(b"user's cache")] ^= 1
    machine.file.write_bytes(content)
    start = machine.run()
    assert start.returncode == 3
    assert f"{machine.file} is damaged" in start.stderr
    assert "copy it again" in start.stderr
    assert start.stdout == ""
    assert not machine.builds.exists()


@pytest.mark.parametrize("name", ["mlxserve", "_internal/library", "_internal/link", "build-id"])
def test_an_unpacked_folder_from_which_a_file_was_taken_is_unpacked_again(machine: Machine, name: str) -> None:
    machine.run()
    (machine.app.parent / name).unlink()
    start = machine.run()
    assert start.stdout.split("|")[1] == str(machine.app)
    assert os.listdir(machine.builds) == [machine.build]


@pytest.mark.parametrize(
    ("line", "changed", "sentence"),
    [
        (b"\nmachine=", b"\nmachine=vax#", "this file is for Linux vax"),
        (b"\noldest=", b"\noldest=99.", "this file needs glibc 99."),
    ],
)
def test_the_wrong_machine_is_told_which_one_the_file_is_for(
    machine: Machine, line: bytes, changed: bytes, sentence: str
) -> None:
    if sys.platform != "linux":
        pytest.skip("the sentences are those of Linux")
    machine.file.write_bytes(machine.file.read_bytes().replace(line, changed, 1).replace(b"vax#", b"vax #"))
    start = machine.run()
    assert start.returncode == 3
    assert sentence in start.stderr


def test_equal_folders_give_equal_files_and_any_change_another_build(tmp_path: Path) -> None:
    files = []
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        files.append(packed(tmp_path / name, content).read_bytes())
    assert files[0] == files[1]
    assert files[0].split(b"\nbuild=")[1][:12] != files[2].split(b"\nbuild=")[1][:12]
