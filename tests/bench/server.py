"""A server under test: its processes from start to end, with nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from time import monotonic, sleep
from types import TracebackType

import msgspec

START_TIMEOUT = 120
"""Seconds that a server may take to answer /health."""
PATIENCE = 10
"""Seconds from SIGTERM to SIGKILL."""
LOG_TAIL = 30
"""Lines of a failed server's log that are shown."""


class SubjectError(Exception):
    """A subject could not be started or measured; says why, with the end of its log."""


class Command(msgspec.Struct, frozen=True):
    """A command line and all the variables it runs with."""

    arguments: Sequence[str]
    environment: dict[str, str]


class Server:
    """Runs `commands`, each as the leader of a process group, from `with` to its end; answers on `port` inside it."""

    def __init__(self, name: str, commands: list[Command], port: int) -> None:
        self._name = name
        self._commands = commands
        self._port = port
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log = tempfile.TemporaryFile()  # noqa: SIM115

    def __enter__(self) -> Server:
        try:
            for command in self._commands:
                self._processes.append(self._start(command))
            self._wait_until_healthy()
        except OSError as error:
            self._end()
            raise self.failure(str(error)) from error
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def failure(self, reason: str) -> SubjectError:
        """The error that says `reason` and shows the end of the log."""
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").splitlines()[-LOG_TAIL:]
        return SubjectError("\n".join([f"{self._name}: {reason}. The end of its log:", *lines]))

    def _start(self, command: Command) -> subprocess.Popen[bytes]:
        # Standard input stays open and silent, like a terminal: mlx.launch spins faster yet on one that has ended.
        return subprocess.Popen(
            command.arguments,
            env=command.environment,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )

    def _wait_until_healthy(self) -> None:
        deadline = monotonic() + START_TIMEOUT
        while not self._is_healthy():
            if any(process.poll() is not None for process in self._processes):
                raise self.failure("ended before it served")
            if monotonic() > deadline:
                raise self.failure(f"did not serve within {START_TIMEOUT} s")
            sleep(0.1)

    def _is_healthy(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _end(self) -> None:
        for process in self._processes:
            _signal(process, signal.SIGTERM)
        deadline = monotonic() + PATIENCE
        while any(_is_running(process) for process in self._processes) and monotonic() < deadline:
            sleep(0.05)
        for process in self._processes:
            _signal(process, signal.SIGKILL)
            process.communicate()


def _is_running(process: subprocess.Popen[bytes]) -> bool:
    """Whether anything of the process's group is left."""
    process.poll()
    return _signal(process, 0)


def _signal(process: subprocess.Popen[bytes], number: int) -> bool:
    """Signal the process's group; False where it is gone."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True
