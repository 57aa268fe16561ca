"""`mlxserve service`: install, remove and status of a service of this machine."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from mlxserve.errors import UserError
from mlxserve.service.job import Job, service_name
from mlxserve.service.launchd import Launchd
from mlxserve.service.systemd import Systemd

NOT_RUNNING = 1
"""The exit code of `status` where the service is not running."""


def supervisor() -> Launchd | Systemd:
    """Who runs services on this machine. Raises UserError where nobody does."""
    if sys.platform == "darwin":
        return Launchd()
    if sys.platform == "linux":
        return Systemd(is_system=os.geteuid() == 0)
    raise UserError(f"services are for macOS and Linux, not for {sys.platform}")


def installer(name: str) -> Launchd | Systemd:
    """Who runs the service of that name: with systemd either this user's manager or, if it has it, the system's."""
    own = supervisor()
    if isinstance(own, Systemd) and not _exists(own, name) and _exists(Systemd(is_system=True), name):
        return Systemd(is_system=True)
    return own


def show(job: Job) -> int:
    """Print the file that `install` would write, and where."""
    runner = supervisor()
    print(f"# {runner.file(job.name)}", file=sys.stderr)
    sys.stdout.write(runner.content(job).decode())
    return 0


def install(job: Job) -> int:
    """Run it from now on, also after the machine starts anew; in place of what ran under its name before."""
    runner = supervisor()
    runner.require()
    _write(runner.file(job.name), runner.content(job))
    runner.start(job)
    print(f"{job.name}: installed, and started")
    _tell(runner, job.name)
    for note in runner.notes(job):
        print(f"  note: {note}")
    return 0


def remove(name: str) -> int:
    """Stop it and delete its file. That there is none is what was asked for."""
    name = service_name(name)
    runner = installer(name)
    file = runner.file(name)
    if not _exists(runner, name):
        print(f"{name}: not installed ({file} does not exist)")
        return 0
    runner.require()
    runner.stop(name)
    file.unlink()
    runner.forget()
    print(f"{name}: stopped, and removed")
    return 0


def status(name: str) -> int:
    """Print what it is doing."""
    name = service_name(name)
    runner = installer(name)
    if not _exists(runner, name):
        print(f"{name}: not installed")
        return NOT_RUNNING
    found = runner.status(name)
    print(f"{name}: {found.sentence}")
    _tell(runner, name)
    return 0 if found.is_running else NOT_RUNNING


def _exists(runner: Launchd | Systemd, name: str) -> bool:
    """Whether its file is there; not where this user may not look."""
    return os.path.exists(runner.file(name))


def _tell(runner: Launchd | Systemd, name: str) -> None:
    print(f"  file: {runner.file(name)}")
    print(f"  log:  {runner.log(name)}")


def _write(file: Path, content: bytes) -> None:
    """Write the file in one step, readable to all, as both launchd and systemd want it. Raises UserError."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, new = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
        with os.fdopen(handle, "wb") as output:
            output.write(content)
            os.fchmod(handle, 0o644)
        os.replace(new, file)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error
