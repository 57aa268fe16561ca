"""Launchers of small programs that stand in for mlxserve, and an ssh that runs its command on this machine."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

REPORT = """
import json, os, sys
names = ("MLX_RANK", "MLX_HOSTFILE", "MLX_JACCL_COORDINATOR", "MLX_METAL_FAST_SYNCH", "FOO")
found = {name: os.environ[name] for name in names if name in os.environ}
if path := found.get("MLX_HOSTFILE"):
    found["addresses"] = json.load(open(path))
print("report " + json.dumps({"argv": sys.argv[1:], "pid": os.getpid(), "folder": os.getcwd(), **found}), flush=True)
"""
NAPS = """\
for _ in range(600):
    time.sleep(0.1)  # a signal that comes just before a sleep is handled only after it
"""
WAIT = f"import sys, time\n{REPORT}{NAPS}"

RELAY = f"""\
#!{sys.executable} -ISB
import contextlib, os, subprocess, sys, threading

def relay(source, target):
    with contextlib.suppress(BrokenPipeError), target:
        while piece := os.read(source.fileno(), 65536):
            target.write(piece)
            target.flush()

words = sys.argv[1:]
while words[0].startswith("-"):
    if words[0] == "-G":
        sys.exit()
    del words[: 2 if words[0] == "-o" else 1]
host, *command = words
home = os.path.join(os.environ["HOSTS"], host)
os.makedirs(home, exist_ok=True)
environ = {{**os.environ, "HOME": home, "PATH": f"{{home}}/bin:{{os.environ['PATH']}}"}}
pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
far = subprocess.Popen(["bash", "-c", " ".join(command)], cwd=home, env=environ, start_new_session=True, **pipes)
threading.Thread(target=relay, args=(sys.stdin.buffer, far.stdin), daemon=True).start()
outputs = [(far.stdout, sys.stdout.buffer), (far.stderr, sys.stderr.buffer)]
relays = [threading.Thread(target=relay, args=pair) for pair in outputs]
for thread in relays:
    thread.start()
for thread in relays:
    thread.join()
os._exit(far.wait())
"""
"""An ssh that passes on what both sides write, as the real one does: killed, it closes the far side's input."""

WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
"""Words before a command by which root, too, is bound to what folders allow."""

StandIn = Callable[[str, str], None]
Program = Callable[[str], str]
Launch = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Make an executable Python program out of its source."""

    def make(source: str) -> str:
        path = tmp_path / "program"
        path.write_text(f"#!{sys.executable}\n{source}")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Start `mlxserve launch`, or another subcommand; whatever still runs at the end is killed."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, subcommand: str = "launch", **environment: str) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "mlxserve", subcommand, *words],
                env={**os.environ, "TMPDIR": str(scratch), **environment},
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may look into who runs WITHOUT_RIGHTS."""
    folder = tmp_path / "shut"
    folder.mkdir(0)
    if os.geteuid() == 0 and not shutil.which("setpriv"):
        pytest.skip("root may look into all folders")
    yield folder
    folder.chmod(0o700)


@pytest.fixture
def fake_ssh(tmp_path: Path) -> str:
    """A PATH whose ssh notes its arguments in `ssh.log` and runs the command here, by a shell as sshd does."""
    folder = tmp_path / "bin"
    folder.mkdir()
    ssh = folder / "ssh"
    ssh.write_text(f'#!/bin/bash\necho "${{@:1:$#-1}}" >> {tmp_path}/ssh.log\nexec bash -c "${{!#}}"\n')
    ssh.chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with the homes of all hosts, each made when ssh first gets there. Their tools may be replaced."""
    folder = tmp_path / "bin"
    folder.mkdir()
    ssh = folder / "ssh"
    ssh.write_text(RELAY)
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("HOSTS", str(tmp_path / "hosts"))
    return tmp_path / "hosts"


@pytest.fixture
def stand_in(hosts: Path) -> StandIn:
    """Put a script, "tool: commands", in the place of a tool on one host."""

    def put(host: str, script: str) -> None:
        name, _, body = script.partition(": ")
        path = hosts / host / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)

    return put


def reports(launcher: subprocess.Popen[str], count: int) -> list[dict[str, object]]:
    """Read the launcher's output until `count` programs have reported; sorted by rank."""
    assert launcher.stdout is not None
    found = []
    while len(found) < count:
        line = launcher.stdout.readline()
        assert line, launcher.stderr.read() if launcher.stderr else ""
        label, separator, report = line.partition(" report ")
        if separator:
            found.append({"label": label, **json.loads(report)})
    return sorted(found, key=lambda report: str(report["MLX_RANK"]))
