"""`--deploy`: each host has the program afterwards, whole or as before, and who has not is told with the reason.

The hosts are folders of this machine: an ssh of the tests gives each a home of its own.
"""

import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxserve.errors import UserError
from mlxserve.launch import deploy as deploying
from mlxserve.launch.hostfile import Host
from tests.launch.conftest import RELAY, WAIT, Launch, Program, StandIn, reports
from tests.launch.test_launcher import two_hosts

TWO = (Host("mini-1"), Host("mini-2"))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mlxserve"
    path.write_bytes(b"#!/bin/sh\n" + os.urandom(3_000_000))
    return path


def files(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def test_each_host_gets_the_program_in_its_own_home(
    hosts: Path, source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    deploying.deploy(TWO, "~/a folder/mlxserve", source)
    for host in ("mini-1", "mini-2"):
        copy = hosts / host / "a folder" / "mlxserve"
        assert copy.read_bytes() == source.read_bytes()
        assert copy.stat().st_mode & 0o777 == 0o755
        assert files(hosts / host) == ["a folder/mlxserve"]
    told = sorted(capfd.readouterr().err.splitlines())
    assert [line.partition(" in ")[0] for line in told] == [f"mlxserve: mini-{n}: copied 3 MB" for n in (1, 2)]


def test_only_another_build_is_replaced(hosts: Path, source: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for host, content in (("mini-1", source.read_bytes()), ("mini-2", b"x" * 3_000_010)):
        (hosts / host).mkdir(parents=True)
        (hosts / host / "mlxserve").write_bytes(content)
        (hosts / host / "mlxserve").chmod(0o755)
    kept = (hosts / "mini-1" / "mlxserve").stat()  # its time of reading may change
    with (hosts / "mini-2" / "mlxserve").open("rb") as running:
        deploying.deploy(TWO, "~/mlxserve", source)
        assert running.read() == b"x" * 3_000_010, "a program that runs keeps its file"
    left = (hosts / "mini-1" / "mlxserve").stat()
    assert (left.st_ino, left.st_mtime_ns, left.st_ctime_ns) == (kept.st_ino, kept.st_mtime_ns, kept.st_ctime_ns)
    assert (hosts / "mini-2" / "mlxserve").read_bytes() == source.read_bytes()
    errors = capfd.readouterr().err
    assert "mini-1: has this build already" in errors
    assert "mini-2: copied 3 MB" in errors


def test_a_copy_that_may_not_be_run_is_made_to_run(
    hosts: Path, source: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (hosts / "mini-1").mkdir(parents=True)
    shutil.copyfile(source, hosts / "mini-1" / "mlxserve")
    deploying.deploy(TWO[:1], "~/mlxserve", source)
    assert os.access(hosts / "mini-1" / "mlxserve", os.X_OK)
    assert "mini-1: has this build already" in capfd.readouterr().err


def test_a_mac_has_no_sha256sum(hosts: Path, source: Path, stand_in: StandIn) -> None:
    tools = [
        shutil.which(name)
        for name in ("bash", "cat", "cut", "uname", "dirname", "mkdir", "mktemp", "chmod", "mv", "rm")
    ]
    for tool in [*tools, shutil.which("shasum")]:
        assert tool is not None
        stand_in("mini-1", f'{Path(tool).name}: exec {tool} "$@"')
    ssh = Path(os.environ["PATH"].partition(":")[0]) / "ssh"
    ssh.write_text(RELAY.replace(":{os.environ['PATH']}", ""))
    deploying.deploy(TWO[:1], "~/mlxserve", source)
    assert (hosts / "mini-1" / "mlxserve").read_bytes() == source.read_bytes()
    (hosts / "mini-1" / "bin" / "shasum").unlink()
    with pytest.raises(UserError, match="mini-1 has neither sha256sum nor shasum"):
        deploying.deploy(TWO[:1], "~/mlxserve", source)


def test_this_machine_needs_no_copy_of_the_program_itself(
    source: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    here = Host("127.0.0.1", ("127.0.0.1",))
    deploying.deploy((here, here), str(source), source)
    assert capfd.readouterr().err == ""
    deploying.deploy((here, here), str(tmp_path / "other" / "mlxserve"), source)
    assert (tmp_path / "other" / "mlxserve").read_bytes() == source.read_bytes()
    assert capfd.readouterr().err.count("127.0.0.1: copied") == 1


@pytest.mark.parametrize(
    ("tool", "sentence"),
    [
        ("uname: echo Darwin arm64", "mini-1 is Darwin arm64, but this program is for {own}"),
        ("cat: echo 'cat: stdout: No space left on device' >&2; exit 1", "no space left on device: free some space"),
        ("mkdir: echo 'mkdir: /x: Permission denied' >&2; exit 1", "permission denied: name a path that its user can"),
        ("mktemp: echo 'mktemp: Read-only file system' >&2; exit 1", "read-only file system: name a path that its"),
        ("mv: echo 'mv: odd' >&2; exit 1", "mini-1: cannot write ~/mlxserve: mv: odd"),
        ("cat: head -c 1000", "mini-1: what arrived is not what was sent: start again"),
    ],
)  # fmt: skip
def test_a_failure_names_host_and_remedy_and_leaves_all_as_it_was(
    hosts: Path, source: Path, stand_in: StandIn, tool: str, sentence: str
) -> None:
    stand_in("mini-1", tool)
    (hosts / "mini-1" / "mlxserve").write_bytes(b"old")
    with pytest.raises(UserError) as raised:
        deploying.deploy(TWO, "~/mlxserve", source)
    assert sentence.format(own=f"{os.uname().sysname} {os.uname().machine}") in str(raised.value)
    assert "\n" not in str(raised.value)
    assert (hosts / "mini-1" / "mlxserve").read_bytes() == b"old"
    assert [name for name in files(hosts / "mini-1") if not name.startswith("bin/")] == ["mlxserve"]
    assert (hosts / "mini-2" / "mlxserve").read_bytes() == source.read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_keeps_the_old_program(hosts: Path, source: Path, small_disk: Path) -> None:
    (small_disk / "mlxserve").write_bytes(b"old")
    with pytest.raises(UserError, match=r"mini-1: cannot write .*mlxserve: no space left on device: free some space"):
        deploying.deploy(TWO[:1], f"{small_disk}/mlxserve", source)
    assert files(small_disk) == ["mlxserve"]
    assert (small_disk / "mlxserve").read_bytes() == b"old"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk whose programs cannot be run")
@pytest.mark.parametrize("is_there", [True, False])
def test_a_disk_from_which_nothing_can_be_run_is_told(
    hosts: Path, source: Path, noexec_disk: Path, is_there: bool
) -> None:
    if is_there:
        shutil.copy(source, noexec_disk / "mlxserve")
    with pytest.raises(
        UserError, match=r"mini-1: no program can be run from the folder of .*/mlxserve there, as if it"
    ):
        deploying.deploy(TWO[:1], f"{noexec_disk}/mlxserve", source)
    assert files(noexec_disk) == ["mlxserve"] * is_there


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    yield from disk(tmp_path / "disk", "size=1m")


@pytest.fixture
def noexec_disk(tmp_path: Path) -> Iterator[Path]:
    yield from disk(tmp_path / "disk", "noexec")


def disk(folder: Path, option: str) -> Iterator[Path]:
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", str(folder)], capture_output=True).returncode:
        pytest.skip("this machine mounts nothing")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_every_host_that_failed_is_told(hosts: Path, source: Path, stand_in: StandIn) -> None:
    stand_in("mini-1", "uname: echo Darwin arm64")
    (hosts / "mini-2" / "mlxserve").mkdir(parents=True)
    with pytest.raises(UserError) as raised:
        deploying.deploy(TWO, "~/mlxserve", source)
    first, second, third = str(raised.value).splitlines()
    assert first == "--deploy failed:"
    assert "mini-1 is Darwin arm64" in second
    assert "mini-2: ~/mlxserve is no file there" in third


def test_a_host_that_is_not_reached_is_told_and_the_others_are_served(hosts: Path, source: Path) -> None:
    ssh = Path(os.environ["PATH"].partition(":")[0]) / "ssh"
    lost = "if host == 'mini-1':\n    print('ssh: No route to host', file=sys.stderr)\n    sys.exit(255)\n"
    ssh.write_text(RELAY.replace("home =", f"{lost}home =", 1))
    with pytest.raises(UserError, match=r"mini-1 was not reached \(.*No route to host\): does `ssh mini-1 true` work"):
        deploying.deploy(TWO, "~/mlxserve", source)
    assert (hosts / "mini-2" / "mlxserve").read_bytes() == source.read_bytes()


def test_a_program_named_without_a_folder_cannot_be_deployed(source: Path) -> None:
    with pytest.raises(UserError, match="--deploy needs a path for --program, such as ~/mlxserve"):
        deploying.deploy(TWO, "mlxserve", source)


def test_a_source_tree_has_nothing_to_deploy(launch: Launch, tmp_path: Path) -> None:
    launcher = launch("--hostfile", two_hosts(tmp_path), "--deploy")
    _, errors = launcher.communicate(timeout=10)
    assert launcher.returncode == 2
    assert "make the file with `make binary`" in errors


DEPLOY = "import sys; from pathlib import Path; from mlxserve.__main__ import run; from mlxserve import cli\n" + (
    "from mlxserve.launch.deploy import deploy; from mlxserve.launch.hostfile import Host\n"
    "cli.main = lambda argv: deploy((Host('mini-1'), Host('mini-2')), '~/mlxserve', Path(argv[0]))\n"
    "sys.exit(run(sys.argv[1:]))"
)


def test_ctrl_c_leaves_no_process_and_no_half_of_a_file(hosts: Path, source: Path, stand_in: StandIn) -> None:
    home = hosts / "mini-1"
    stand_in("mini-1", f'cat: head -c 500000; echo > "$HOME/half"; read -r < "$HOME/go"; exec {shutil.which("cat")}')
    os.mkfifo(home / "half")
    os.mkfifo(home / "go")
    process = subprocess.Popen([sys.executable, "-c", DEPLOY, str(source)], stderr=subprocess.PIPE)
    (home / "half").read_text()
    (half,) = home.glob("mlxserve.*")
    assert half.stat().st_size == 500000
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == 130
    (home / "go").write_text("\n")
    end = time.monotonic() + 5
    while half.exists():
        assert time.monotonic() < end, "half a file was left"
        time.sleep(0.02)
    assert not (home / "mlxserve").exists()
    process.communicate()


def test_a_terminal_sees_how_far_each_host_is(hosts: Path, source: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", DEPLOY, str(source)], stderr=slave)
    os.close(slave)
    seen = b""
    try:
        while piece := os.read(master, 65536):
            seen += piece
    except OSError:  # how Linux tells the end
        pass
    os.close(master)
    assert process.wait(10) == 0
    assert b"\r\x1b[Kmlxserve: copying to " in seen
    assert b"mini-1 100 %" in seen
    assert b"mini-2 100 %" in seen
    assert seen.count(b"\n") == 2


def test_the_launcher_deploys_and_then_starts(hosts: Path, launch: Launch, program: Program, tmp_path: Path) -> None:
    frozen = "import sys; sys.frozen = True; from mlxserve.__main__ import main; main()"
    made = program(WAIT)
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", frozen, "launch", "--hostfile", two_hosts(tmp_path)),
            *("--deploy", "--program", "~/new/mlxserve", "--port", "8101"),
        ],
        env={**os.environ, "MLXSERVE_FILE": made},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first, second = reports(process, 2)
    assert first["argv"] == second["argv"] == ["serve", "--port", "8101"]
    assert (hosts / "mini-2" / "new" / "mlxserve").read_text() == Path(made).read_text()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "mini-1: copied 0 MB" in errors
