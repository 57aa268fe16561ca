"""The ranks' processes together: waited for without using the CPU, and when one ends, all are ended."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import Literal

from mlxserve.bars import Bars
from mlxserve.errors import BrokenBuild, UserError
from mlxserve.launch.output import say
from mlxserve.launch.process import Process, Start
from mlxserve.launch.script import MISSING, PATIENCE, UNFIT
from mlxserve.launch.signals import SIGNALS

FINAL = (UserError.exit_code, BrokenBuild.exit_code, MISSING, UNFIT)
"""Exit codes after which only a person can help."""
SETTLE = 1.0
"""Seconds that the other ranks have to end by themselves when one has ended."""


class Processes:
    """All ranks. Belongs to the event loop it is made in, whose handlers for SIGNALS it sets."""

    def __init__(self, starts: list[Start], drain_seconds: float = 0.0, least: int = 0) -> None:
        """After SIGTERM the ranks have `drain_seconds` to finish what they have begun.

        `least`: how many, rank 0 among them, go on when others are lost; 0: all are needed.
        """
        self._drain_seconds = drain_seconds
        self._least = least or len(starts)
        self._drains = False
        self._bars = Bars(sys.stderr)
        self._all = [Process(start, number, self._bars) for number, start in enumerate(starts)]
        self._running: dict[asyncio.Task[int], Process] = {}
        self._signals = 0
        self._signalled = asyncio.Event()

    async def run(self, after_signal: int = 0) -> int:
        """Start the ranks and wait for their end; returns the exit code that the launcher ends with.

        That is the first failed rank's, `after_signal` after a signal, 130 after a second one.
        """
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._signal, number)
        try:
            for process in self._all:
                await process.start()
                self._running[asyncio.create_task(process.ended())] = process
            await self._until_one_is_needed()
            if self._signals == 0:
                await self._signal_or_end(SETTLE, asyncio.ALL_COMPLETED)
            code = self._report() if self._signals == 0 else after_signal
        finally:
            self._bars.clear()
            await self._end()
        return 130 if self._signals > 1 else code

    async def _until_one_is_needed(self) -> None:
        """Wait for a signal, or until a rank has ended without which the others cannot go on."""
        while not self._signals:
            await self._signal_or_end(None, asyncio.FIRST_COMPLETED)
            for task, process in [pair for pair in self._running.items() if pair[0].done()]:
                code = task.result()
                lost = code != 0 and code not in FINAL and process is not self._all[0]
                if self._signals or not lost or len(self._running) <= self._least:
                    return
                say(f"{process.described(code)}; the others go on without it (launch --keep would start it again)")
                del self._running[task]

    async def _signal_or_end(self, timeout: float | None, when: str) -> None:
        """Wait until the next signal, or until `when` of the running ranks have ended."""
        self._signalled.clear()
        running = [task for task in self._running if not task.done()]
        if not running:
            return
        signalled = asyncio.ensure_future(self._signalled.wait())
        ended = asyncio.ensure_future(asyncio.wait(running, timeout=timeout, return_when=when))
        await asyncio.wait([signalled, ended], return_when=asyncio.FIRST_COMPLETED)
        for waiting in (signalled, ended):
            waiting.cancel()

    def _report(self) -> int:
        """Say which rank ended first, or first of those that failed, and how; returns its exit code."""
        ended = [(task.result(), process) for task, process in self._running.items() if task.done()]
        code, process = next((pair for pair in ended if pair[0] != 0), ended[0])
        others = "; ending the others" if len(ended) < len(self._all) else ""
        if code or others:
            say(process.described(code) + others)
        return code

    async def _end(self) -> None:
        """End what runs: asked first, killed after PATIENCE seconds or at one more signal."""
        if self._drains:
            self._order("drain")
            await self._signal_or_end(self._drain_seconds + PATIENCE, asyncio.ALL_COMPLETED)
        self._order("end")
        await self._signal_or_end(PATIENCE + 0.5, asyncio.ALL_COMPLETED)
        self._order("end")
        await self._signal_or_end(0.5, asyncio.ALL_COMPLETED)
        for task, process in self._running.items():
            if not task.done():
                process.kill()
        await asyncio.gather(*self._running)

    def _order(self, what: Literal["drain", "end"]) -> None:
        for task, process in self._running.items():
            if not task.done():
                process.order(what)

    def _signal(self, number: signal.Signals) -> None:
        self._drains = self._signals == 0 and number == signal.SIGTERM and self._drain_seconds > 0
        self._signals += 1
        self._signalled.set()
