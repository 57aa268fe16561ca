"""A host for tests: namespaces of this machine with their own network, processes, home, name, /etc, /tmp and sshd."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
PATH_WITHOUT_PYTHON = "/run/host/bin"
TOOLS = {name: shutil.which(name, path=PATH) for name in ("ip", "unshare", "setpriv", "sshd", "ssh", "ssh-keygen")}
HOME = pwd.getpwuid(0).pw_dir
REPOSITORY = Path(__file__).parents[2]
INSIDE = str(Path(__file__).with_name("inside.py"))
START_SECONDS = 20.0

SSHD_CONFIG = """\
AuthorizedKeysFile .ssh/authorized_keys
HostKey /run/host/host_key
MaxStartups 100
PasswordAuthentication no
PermitRootLogin prohibit-password
PidFile none
SetEnv PATH={path}
StrictModes no
Subsystem sftp internal-sftp
UseDNS no
UsePAM no
"""

BOOT = f"""\
mount -t tmpfs tmpfs /run
keep() {{ mkdir -p "$2" && mount --rbind "$1" "$2"; }}
keep "$folder" /run/host
mkdir /run/sshd
for number in "${{!shown[@]}}"; do keep "${{shown[$number]}}" "/run/shown/$number"; done
for file in "${{masked[@]}}"; do mount --bind "$folder/masked" "$file"; done
cp -a /etc /run/etc
for file in hosts shadow; do ln -sf "/run/host/$file" "/run/etc/$file"; done
mount --bind /run/etc /etc
for emptied in "${{emptied[@]}}" /dev/shm /tmp; do mount -t tmpfs tmpfs "$emptied"; done
chmod 1777 /tmp
mount --bind /run/host/home {HOME}
for number in "${{!shown[@]}}"; do keep "/run/shown/$number" "${{shown[$number]}}"; done
mount -t sysfs sysfs /sys || true
ip link set lo up
hostname "$name"
exec {TOOLS["sshd"]} -D -e -f /run/host/sshd_config
"""
"""What a host does first, in a mount namespace of its own; its sshd becomes its first process, which reaps orphans."""


class Host:
    """One machine. Its user is root, whose home folder it has to itself: `home` is where that is seen from outside."""

    def __init__(self, name: str, folder: Path, python: bool) -> None:
        """Set up the files of the host in `folder`; without `python` nothing on it finds an interpreter."""
        self.name = name
        self.home = folder / "home"
        self.addresses: dict[str, str] = {}
        """Its address by the name of the host at the other end of the cable."""
        self._folder = folder
        (self.home / ".ssh").mkdir(parents=True)
        self._path = PATH if python else PATH_WITHOUT_PYTHON
        (folder / "sshd_config").write_text(SSHD_CONFIG.format(path=self._path))
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n")
        (folder / "masked").touch(0o600)
        _link_all_but_pythons(folder / "bin")
        (folder / "shadow").write_text("root:*:20000:0:99999:7:::\nsshd:*:20000::::::\n")
        run_tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "host_key"))
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(str(TOOLS["setpriv"]), "--pdeathsig", "KILL"),
                    *(str(TOOLS["unshare"]), "--mount", "--uts", "--net", "--ipc", "--pid", "--fork", "--kill-child"),
                    *("--mount-proc", "bash", "-euc", _boot_script(name, folder, python)),
                ],
                env={"PATH": PATH},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def address(self) -> str:
        """Its address on its first cable."""
        return next(iter(self.addresses.values()))

    @property
    def pid(self) -> int:
        """The process, outside, that made the host's namespaces."""
        return self._process.pid

    @property
    def log(self) -> str:
        """What its sshd has logged."""
        return (self._folder / "log").read_text(errors="replace")

    def wait_until_up(self) -> None:
        """Wait until its sshd listens."""
        deadline = time.monotonic() + START_SECONDS
        while "Server listening" not in self.log:
            assert self._process.poll() is None, f"{self.name} did not start:\n{self.log}"
            assert time.monotonic() < deadline, f"{self.name} has not started within {START_SECONDS} s:\n{self.log}"
            time.sleep(0.01)

    def popen(
        self, command: Sequence[str], cwd: str = HOME, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[Any]:
        """Start `command` as a user who sits at the host. Signals sent to it reach the command's process group."""
        user = {"HOME": HOME, "LOGNAME": "root", "SHELL": "/bin/bash", "USER": "root"}
        return subprocess.Popen(
            [sys.executable, "-ISB", INSIDE, str(self.pid), cwd, *command],
            env={**user, "PATH": self._path, "TERM": "xterm", **(env or {})},
            **{"stdin": subprocess.DEVNULL, **options},
        )

    def run(
        self, command: Sequence[str], timeout: float = 60, input: str | None = None, check: bool = False, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run `command` to its end; its exit code, stdout and stderr as text. `check`: the code must be 0."""
        stdin = subprocess.DEVNULL if input is None else subprocess.PIPE
        pipe = subprocess.PIPE
        with self.popen(command, stdin=stdin, stdout=pipe, stderr=pipe, text=True, **options) as process:
            try:
                output, errors = process.communicate(input, timeout)
            finally:
                process.kill()
        assert not check or process.returncode == 0, f"{command} ended with {process.returncode}: {output}{errors}"
        return subprocess.CompletedProcess(list(command), process.returncode, output, errors)

    def processes(self) -> dict[int, str]:
        """The command lines of what runs on it, by their pids outside; sshd and its sessions left out."""
        lines = {}
        for pid in _pids_in(self._namespace()):
            with contextlib.suppress(OSError):
                lines[pid] = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").rstrip("\0").replace("\0", " ")
        return {pid: line for pid, line in lines.items() if line and not re.match(r"(/\S+/)?sshd", line)}

    def wait_until_idle(self, timeout: float = 5.0) -> None:
        """Wait until nothing runs on it but its sshd."""
        deadline = time.monotonic() + timeout
        while left := self.processes():
            assert time.monotonic() < deadline, f"left running on {self.name} after {timeout} s: {left}"
            time.sleep(0.02)

    def close(self) -> None:
        """Kill all that runs on it, and with it the host."""
        namespace = self._namespace()
        self._process.kill()
        self._process.wait()
        while _pids_in(namespace):
            time.sleep(0.01)

    def _namespace(self) -> str:
        """Its PID namespace; empty where it has none (yet, or any more)."""
        try:
            own, outer = (os.readlink(f"/proc/{pid}/ns/pid_for_children") for pid in (self.pid, "self"))
        except OSError:
            return ""
        return own if own != outer else ""


def _boot_script(name: str, folder: Path, python: bool) -> str:
    installations = sorted({sys.prefix, sys.base_prefix} - {"/usr", "/usr/local"}, reverse=True)
    programs = {os.path.realpath(path) for path in glob.glob("/usr/bin/python*") + glob.glob("/usr/local/bin/python*")}
    lists = {
        "shown": [*installations, str(REPOSITORY)] if python else [],
        "emptied": [] if python else installations,
        "masked": [] if python else sorted(programs),
    }
    arrays = [f"{variable}=({shlex.join(paths)})" for variable, paths in lists.items()]
    return "\n".join([f"name={name}", f"folder={shlex.quote(str(folder))}", *arrays, BOOT])


def _link_all_but_pythons(folder: Path) -> None:
    """Fill `folder`, to be a PATH, with this machine's programs."""
    folder.mkdir()
    programs = {path.name: path for part in reversed(PATH.split(":")) for path in sorted(Path(part).glob("*"))}
    for name, path in programs.items():
        if not name.startswith("python"):
            (folder / name).symlink_to(path)


def _pids_in(namespace: str) -> list[int]:
    """The processes in a PID namespace that have not ended."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdecimal() and os.readlink(folder / "ns" / "pid") == namespace:
                state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                found += [int(folder.name)] if state not in "ZX" else []
    return found


def run_tool(*command: str) -> None:
    """Run a tool of this machine. Raises with its words where it fails."""
    done = subprocess.run(command, env={"PATH": PATH}, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{shlex.join(command)} ended with {done.returncode}: {done.stdout}{done.stderr}")
