"""A machine that a systemd of its own has booted: namespaces of this one, and nothing started in them but that."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.host import INSIDE, PATH

SYSTEMD = "/lib/systemd/systemd"
BOOT = f"""\
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /etc/systemd/system
for target in basic sysinit shutdown multi-user network-online umount; do
    printf '[Unit]\\nDefaultDependencies=no\\n' > "/etc/systemd/system/$target.target"
done
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$group"
touch /run/apart
echo 0 > "/sys/fs/cgroup/$group/cgroup.procs"
export container=test SYSTEMD_UNIT_PATH=/etc/systemd/system SYSTEMD_GENERATOR_PATH=/none
exec unshare --cgroup bash -euc '
    umount /sys/fs/cgroup
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    exec {SYSTEMD} --system --unit=basic.target --log-target=console --show-status=no
'
"""
CLEAR = """\
mount -t cgroup2 cgroup2 /sys/fs/cgroup
[ ! -d "/sys/fs/cgroup/$group" ] || find "/sys/fs/cgroup/$group" -depth -type d -exec rmdir {} +
"""
NAMESPACES = ("unshare", "--mount", "--uts", "--net", "--ipc", "--pid", "--fork", "--kill-child", "--mount-proc")


class Booted:
    """The machine, as long as its first process runs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def run(
        self, *command: str, cwd: Path | str = "/", input: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root."""
        assert self._is_apart(), "this would run on the real machine"
        return subprocess.run(
            [sys.executable, "-ISB", INSIDE, str(self._process.pid), str(cwd), *command],
            env={"HOME": "/root", "PATH": PATH, **environment},
            input=input,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def wait_until_up(self) -> str:
        """Wait until systemd answers; returns why it does not."""
        deadline = time.monotonic() + 20
        while not (self._is_apart() and self.run("systemctl", "is-system-running").stdout == "running\n"):
            if self._process.poll() is not None or time.monotonic() > deadline:
                return "it ended" if self._process.poll() is not None else "it does not answer"
            time.sleep(0.02)
        return ""

    def _is_apart(self) -> bool:
        """Whether it has its own /run, by which systemd is reached, and /etc/systemd/system."""
        return os.path.exists(f"/proc/{self._process.pid}/root/run/apart")


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[Booted]:
    """Boot; skips the test where this machine cannot."""
    if os.geteuid() != 0 or not os.path.exists(SYSTEMD) or not shutil.which("unshare"):
        pytest.skip("booting a systemd needs root, systemd and unshare")
    group = f"mlxserve-test-{uuid.uuid4().hex[:8]}"
    preface = f"set -eu\ngroup={shlex.quote(group)}\n"
    with (folder / "boot").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *NAMESPACES, "bash", "-c", preface + BOOT],
            env={"PATH": PATH},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        machine = Booted(process)
        if why := machine.wait_until_up():
            pytest.skip(f"no systemd boots in namespaces of this machine: {why}: {(folder / 'boot').read_text()}")
        yield machine
    finally:
        process.kill()
        process.wait()
        _clear(preface)


def _clear(preface: str) -> None:
    """Remove the control groups that systemd made, as soon as their last process is gone."""
    deadline = time.monotonic() + 10
    while subprocess.run(["unshare", "--mount", "bash", "-c", preface + CLEAR], capture_output=True).returncode != 0:
        if time.monotonic() > deadline:
            return
        time.sleep(0.05)
