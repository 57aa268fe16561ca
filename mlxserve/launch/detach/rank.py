"""A rank that runs on this machine without a launcher, and its folder: private to its user, and there until the next.

`log` has what it has said. `lock` is locked by the rank for as long as it runs, however it ends, and tells its process.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from mlxserve.engine.child import own_command
from mlxserve.errors import UserError
from mlxserve.launch.detach.orders import Begin

PATIENCE = 3.0
"""Seconds from SIGHUP to SIGKILL: less than the launcher's, which waits for it."""
_POLL_SECONDS = 0.05


class Record(msgspec.Struct, frozen=True):
    """What runs: its process, which leads a session of its own, and a digest of what it was ordered to be."""

    pid: int
    digest: str


class DetachedRank:
    """One rank by its name, running or not."""

    def __init__(self, name: str) -> None:
        self.folder = state_folder() / name
        self.log = self.folder / "log"
        self._lock = self.folder / "lock"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def was_begun_here(self) -> bool:
        """Whether it was this process that has started it."""
        return self._process is not None

    def begin(self, order: Begin) -> Record:
        """Start it, unless it runs. Raises UserError where it runs as something else."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return self._same(order)
        else:
            return self._start(order, lock)
        finally:
            os.close(lock)

    def running(self) -> Record | None:
        """What runs; None where nothing does."""
        try:
            lock = os.open(self._lock, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _record_in(lock)
        finally:
            os.close(lock)
        return None

    def exit_code(self) -> int | None:
        """What it has ended with, 1 where that cannot be known; None while it runs."""
        if self._process is None:
            return None if self.running() else 1
        code = self._process.poll()
        return code if code is None or code >= 0 else 128 - code

    def end(self, drain_seconds: float = 0.0) -> bool:
        """End it, killed where it has to be; it may first finish for so long what it has begun. False: none ran."""
        found = self.running()
        if found is None:
            return False
        asked = [(signal.SIGTERM, drain_seconds + PATIENCE)] if drain_seconds else []
        for number, seconds in [*asked, (signal.SIGHUP, PATIENCE)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.pid, number)
            if self._ends_within(seconds):
                break
        with contextlib.suppress(ProcessLookupError):
            os.killpg(found.pid, signal.SIGKILL)  # its engine, too, should that be left
        self._ends_within(PATIENCE)
        return True

    def _start(self, order: Begin, lock: int) -> Record:
        os.ftruncate(lock, 0)
        environment = {**os.environ, **order.environment, **order.secrets}
        for name, content in order.files.items():
            environment[name] = str(self.folder / name)
            _write(self.folder / name, content)
        if self.log.exists():
            shutil.move(self.log, self.folder / "log.old")
        with _private(self.log).open("wb") as log:
            self._process = subprocess.Popen(
                [*own_command(), *order.words],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,
            )
        record = Record(self._process.pid, _digest(order))
        os.pwrite(lock, msgspec.json.encode(record), 0)
        return record

    def _same(self, order: Begin) -> Record:
        found = self.running()
        if found is None or found.digest != _digest(order):
            raise UserError(
                f"a server runs here as {self.folder.name} that was started with other flags, hosts or ports: "
                "end it first with `mlxserve launch --stop`, or choose another --port"
            )
        return found

    def _ends_within(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.running():
            if time.monotonic() > deadline:
                return False
            if self._process:
                self._process.poll()
            time.sleep(_POLL_SECONDS)
        return True


def state_folder() -> Path:
    """Where the folders of ranks are: `$XDG_STATE_HOME/mlxserve`, or the system's place for logs."""
    configured = Path(os.environ.get("XDG_STATE_HOME", ""))
    if configured.is_absolute():
        return configured / "mlxserve"
    home = Path.home()
    return (home / "Library/Logs" if sys.platform == "darwin" else home / ".local/state") / "mlxserve"


def _record_in(lock: int) -> Record:
    try:
        return msgspec.json.decode(os.read(lock, 1 << 16), type=Record)
    except msgspec.DecodeError as error:
        raise UserError("it is being started by another command: wait a moment, and try again") from error


def _digest(order: Begin) -> str:
    """Of what it is to be; not of the secrets, from which a short one might be guessed."""
    plain = msgspec.structs.replace(order, secrets={}, for_good=False)
    return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()


def _private(file: Path) -> Path:
    """`file`, there and readable to its user alone."""
    file.touch(0o600)
    file.chmod(0o600)
    return file


def _write(file: Path, content: str) -> None:
    _private(file).write_text(content)
