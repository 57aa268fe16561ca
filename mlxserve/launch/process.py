"""One rank's process: started, listened to, and asked to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import Literal

import msgspec

from mlxserve.bars import Bars
from mlxserve.errors import UserError
from mlxserve.launch.command import UNREACHED
from mlxserve.launch.output import Lines
from mlxserve.launch.script import MISSING, UNFIT


class Start(msgspec.Struct, frozen=True):
    """How to start one rank: the command that runs its script, here or over ssh."""

    label: str
    command: list[str]
    program: str = ""
    """The path of the program there."""
    secrets: tuple[str, ...] = ()
    """The first lines of its standard input."""


class Process(asyncio.SubprocessProtocol):
    """One rank's process, in a session of its own so that a terminal's Ctrl-C reaches the launcher alone."""

    def __init__(self, start: Start, number: int, bars: Bars) -> None:
        self.label = start.label
        self.over_ssh = os.path.basename(start.command[0]) == "ssh"
        self._command = start.command
        self._program = start.program
        self._secrets = start.secrets
        self._lines = {
            1: Lines(sys.stdout.buffer, start.label, number, bars),
            2: Lines(sys.stderr.buffer, start.label, number, bars),
        }
        self._exited = asyncio.Event()
        self._silent = asyncio.Event()

    async def start(self) -> None:
        """Start the process with its order channel as standard input."""
        reading, self._orders = os.pipe()
        try:
            self._transport, _ = await asyncio.get_running_loop().subprocess_exec(
                lambda: self, *self._command, stdin=reading, start_new_session=True
            )
        except FileNotFoundError as error:
            os.close(self._orders)
            raise UserError(f"{self.label} needs {self._command[0]}, which is not installed here") from error
        finally:
            os.close(reading)
        with contextlib.suppress(BrokenPipeError):  # it has ended already, which `ended` tells
            os.write(self._orders, "".join(f"{line}\n" for line in self._secrets).encode())

    async def ended(self) -> int:
        """Wait for the end, clear up what is left; returns the exit code, 128 + n for signal n as in a shell.

        A process that the rank left behind may hold its output open for ever, so it is not waited for.
        """
        await self._exited.wait()
        self.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._silent.wait(), 1.0)
        for lines in self._lines.values():
            lines.close()
        code = self._transport.get_returncode()
        self._transport.close()
        os.close(self._orders)
        assert code is not None
        return code if code >= 0 else 128 - code

    def order(self, what: Literal["drain", "end"]) -> None:
        """Ask the script's guard to let the rank finish what it has begun, or to end it; a second "end" kills it."""
        with contextlib.suppress(OSError):
            os.write(self._orders, f"{what}\n".encode())

    def kill(self) -> None:
        """Kill what is left of the rank on this machine."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._transport.get_pid(), signal.SIGKILL)

    def described(self, code: int) -> str:
        """A sentence on how the rank ended."""
        if self.over_ssh and code == UNREACHED:
            return f"{self.label} was not reached or was lost: does `ssh {self.label} true` work without a password?"
        if code in (MISSING, UNFIT):
            return f"{self.label} {self._not_run(code)}"
        if code > 128:
            return f"{self.label} was ended by signal {code - 128}"
        return f"{self.label} ended with exit code {code}"

    def _not_run(self, code: int) -> str:
        cause = f"has no program at {self._program}" if code == MISSING else f"cannot run {self._program}"
        if not self.over_ssh:
            return f"{cause}: name another with --program"
        return f"{cause}: copy this one there with --deploy, or name the path it has on every host with --program"

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """Write the rank's output. (Called by asyncio.)"""
        self._lines[fd].feed(data)

    def process_exited(self) -> None:
        """Note that the process has exited. (Called by asyncio.)"""
        self._exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the process has exited and its output is read to the end. (Called by asyncio.)"""
        self._silent.set()
