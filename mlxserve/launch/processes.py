"""The ranks as processes: started, listened to, waited for without using the CPU, and ended together."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import msgspec

from mlxserve.launch.output import Output, say
from mlxserve.launch.script import PATIENCE

SETTLE = 1.0
"""Seconds that the other ranks have to end by themselves when one has ended."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Start(msgspec.Struct, frozen=True):
    """How to start one rank: the command that runs its script, here or over ssh."""

    label: str
    command: list[str]


class Process:
    """One rank's process, in a session of its own so that a terminal's Ctrl-C reaches the launcher alone."""

    def __init__(self, start: Start, number: int) -> None:
        self.label = start.label
        self.over_ssh = os.path.basename(start.command[0]) == "ssh"
        self._command = start.command
        self._output = Output(start.label, number)

    async def start(self) -> None:
        """Start the process with its order channel as standard input."""
        reading, self._orders = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=reading,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except BaseException:
            os.close(self._orders)
            raise
        finally:
            os.close(reading)

    async def run(self) -> int:
        """Copy the output until the process ends; returns its exit code, 128 + n for signal n as in a shell."""
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        copying = asyncio.gather(
            self._output.copy(self._process.stdout, sys.stdout.buffer),
            self._output.copy(self._process.stderr, sys.stderr.buffer),
        )
        code = await self._process.wait()
        self.kill()
        await copying
        os.close(self._orders)
        return code if code >= 0 else 128 - code

    def order_end(self) -> None:
        """Ask the script's guard to end the rank; asked twice, to do so at once."""
        with contextlib.suppress(OSError):
            os.write(self._orders, b"end\n")

    def kill(self) -> None:
        """Kill what is left of the rank on this machine."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def described(self, code: int) -> str:
        """A sentence on how the rank ended."""
        if self.over_ssh and code == 255:
            return f"{self.label} was not reached or was lost: does `ssh {self.label} true` work without a password?"
        if code > 128:
            return f"{self.label} was ended by signal {code - 128}"
        return f"{self.label} ended with exit code {code}"


class Processes:
    """All ranks. When one ends, or a signal comes, they all end."""

    def __init__(self, starts: list[Start]) -> None:
        self._all = [Process(start, number) for number, start in enumerate(starts)]
        self._running: dict[asyncio.Task[int], Process] = {}
        self._signals = 0
        self._signalled = asyncio.Event()

    async def run(self) -> int:
        """Start the ranks and wait for their end; returns the exit code that the launcher ends with."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self._signal)
        try:
            for process in self._all:
                await process.start()
                self._running[asyncio.create_task(process.run())] = process
            return await self._watch()
        finally:
            await self._end()

    async def _watch(self) -> int:
        signalled = asyncio.create_task(self._signalled.wait())
        await asyncio.wait([signalled, *self._running], return_when=asyncio.FIRST_COMPLETED)
        if self._signals == 0:
            await asyncio.wait(self._running, timeout=SETTLE, return_when=asyncio.ALL_COMPLETED)
        ended = [(task.result(), process) for task, process in self._running.items() if task.done()]
        code = self._report(ended) if self._signals == 0 else 0
        await self._end()
        signalled.cancel()
        return 130 if self._signals > 1 else code

    def _report(self, ended: list[tuple[int, Process]]) -> int:
        """Say which rank ended first, badly if any did, and how; returns its exit code."""
        code, process = next((pair for pair in ended if pair[0] != 0), ended[0])
        others = "; ending the others" if len(ended) < len(self._all) else ""
        if code or others:
            say(process.described(code) + others)
        return code

    async def _end(self) -> None:
        """End what runs: asked first, killed after PATIENCE seconds or a second signal."""
        running = {task: process for task, process in self._running.items() if not task.done()}
        if not running:
            return
        for process in running.values():
            process.order_end()
        self._signalled.clear()
        impatient = asyncio.create_task(self._signalled.wait())
        ending = asyncio.ensure_future(asyncio.wait(running, timeout=PATIENCE + 0.5))
        await asyncio.wait([impatient, ending], return_when=asyncio.FIRST_COMPLETED)
        if impatient.done():
            for process in running.values():
                process.order_end()
            await asyncio.wait(running, timeout=0.3)
        impatient.cancel()
        for task, process in running.items():
            if not task.done():
                process.kill()
        await asyncio.gather(ending, *running)

    def _signal(self) -> None:
        self._signals += 1
        self._signalled.set()
