"""A service under launchd, on macOS: a daemon, which runs without anybody logged in and needs no permission for the
local network, as the user who installs it.
"""

from __future__ import annotations

import os
import plistlib
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from mlxserve.errors import UserError
from mlxserve.service.job import Job, with_sudo
from mlxserve.service.status import Status


class Launchd(msgspec.Struct, frozen=True):
    """launchd's manager of daemons; `folder` has their property lists."""

    folder: Path = Path("/Library/LaunchDaemons")

    def file(self, name: str) -> Path:
        """Where the property list is."""
        return self.folder / f"{_label(name)}.plist"

    def content(self, job: Job) -> bytes:
        """The property list, as launchd.plist(5) has it."""
        log = f"{job.home}/Library/Logs/mlxserve/{job.name}.log"
        # KeepAlive whatever the exit code: a rank that ends because its machine shuts down ends the command with 0.
        # Interactive: launchd slows down what it takes for a background task.
        return plistlib.dumps(
            {
                "Label": _label(job.name),
                "ProgramArguments": list(job.command),
                "UserName": job.user,
                "WorkingDirectory": job.folder,
                "EnvironmentVariables": job.environment,
                "RunAtLoad": True,
                "KeepAlive": True,
                "ThrottleInterval": 10,
                "ExitTimeOut": job.stop_seconds,
                "ProcessType": "Interactive",
                "StandardOutPath": log,
                "StandardErrorPath": log,
            },
            sort_keys=False,
        )

    def require(self) -> None:
        """Raise UserError unless this is root, the only one who may install daemons."""
        if os.geteuid() != 0:
            raise UserError(f"launchd takes services from root alone: run `{with_sudo()}`")

    def start(self, job: Job) -> None:
        """Start what the written property list says, now and with the machine."""
        folder = Path(self.log(job.name)).parent
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, job.uid, job.gid)
        self.stop(job.name)
        _checked("enable", _target(job.name))
        _checked("bootstrap", "system", str(self.file(job.name)))

    def stop(self, name: str) -> None:
        """Stop it. Raises UserError where it goes on."""
        _launchctl("bootout", _target(name))
        deadline = time.monotonic() + self._property(name, "ExitTimeOut") + 5
        while _launchctl("print", _target(name)).returncode == 0:
            if time.monotonic() > deadline:
                raise UserError(f"{name} does not end: `sudo launchctl bootout {_target(name)}` should end it")
            time.sleep(0.1)

    def forget(self) -> None:
        """Nothing: launchd has no memory of files."""

    def status(self, name: str) -> Status:
        """What it is doing."""
        printed = _launchctl("print", _target(name))
        if printed.returncode != 0:
            return Status(False, f"not loaded: `sudo launchctl bootstrap system {self.file(name)}` loads it")
        return status_from(printed.stdout)

    def notes(self, job: Job) -> Iterator[str]:
        """What else to know of it."""
        yield "a Mac that sleeps does not serve: `sudo pmset -a sleep 0` keeps it awake, on every host"

    def log(self, name: str) -> str:
        """Where its log is, once its file is written."""
        return str(self._property(name, "StandardOutPath"))

    def _property(self, name: str, key: str) -> Any:
        """What the written property list says."""
        return plistlib.loads(self.file(name).read_bytes())[key]


def status_from(printed: str) -> Status:
    """Read what `launchctl print` says of a daemon."""
    found = dict(re.findall(r"^\t(state|pid|runs|last exit code) = (.*)$", printed, re.MULTILINE))
    runs = int(found.get("runs", "1"))
    if found.get("state") == "running":
        return Status(True, f"running, process {found.get('pid', '?')}, started again {max(0, runs - 1)} times")
    ended = f"last ended with exit code {found.get('last exit code', '?')}"
    return Status(False, f"{found.get('state', 'not running')}: {ended}")


def _label(name: str) -> str:
    return f"local.{name}"


def _target(name: str) -> str:
    return f"system/{_label(name)}"


def _checked(*words: str) -> None:
    done = _launchctl(*words)
    if done.returncode != 0:
        raise UserError(f"`launchctl {' '.join(words)}` failed: {done.stderr.strip() or done.returncode}")


def _launchctl(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["launchctl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
