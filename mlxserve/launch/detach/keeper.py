"""Ranks that go on by themselves, and a launcher that stays: each is started again when it ends or its host comes back.

What is lost with an ssh session is only what the rank says meanwhile; the next one finds it running.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time

from mlxserve.bars import Bars
from mlxserve.launch.detach.far import ENDED
from mlxserve.launch.output import say
from mlxserve.launch.process import Process, Start
from mlxserve.launch.processes import FINAL
from mlxserve.launch.signals import SIGNALS

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
PROVEN_SECONDS = 60.0
"""A rank that was followed for so long counts as having worked."""


class Keeper:
    """Follows all ranks. Belongs to the event loop it is made in, whose handlers for SIGNALS it sets."""

    def __init__(self, starts: list[Start]) -> None:
        self._starts = starts
        self._bars = Bars(sys.stderr)
        self._following: dict[int, Process] = {}
        self._is_over = False
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        for number in SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._signals.put_nowait, number)

    async def run(self) -> signal.Signals | int:
        """Keep the ranks running. Returns the signal that came, or the exit code of a rank that cannot be helped."""
        keeping = {asyncio.create_task(self._keep(number)) for number in range(len(self._starts))}
        signalled = asyncio.create_task(self.signal())
        ended, going_on = await asyncio.wait({*keeping, signalled}, return_when=asyncio.FIRST_COMPLETED)
        self._is_over = True
        for process in self._following.values():
            process.kill()
        for task in going_on - keeping:
            task.cancel()
        await asyncio.gather(*keeping)
        return signalled.result() if signalled in ended else next(iter(ended)).result()

    async def signal(self) -> signal.Signals:
        """The next signal, waited for."""
        return await self._signals.get()

    async def _keep(self, number: int) -> int:
        pause = FIRST_PAUSE
        while True:
            began = time.monotonic()
            code = await self._follow(number)
            if code in FINAL or self._is_over:
                return code
            if time.monotonic() - began > PROVEN_SECONDS:
                pause = FIRST_PAUSE
            await self._sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _follow(self, number: int) -> int:
        """Start a rank unless it runs, and follow it until it ends or its host is lost; returns the exit code."""
        process = Process(self._starts[number], number, self._bars)
        await process.start()
        self._following[number] = process
        code = await process.ended()
        del self._following[number]
        if not self._is_over and code != ENDED:
            say(process.described(code) + ("" if code in FINAL else "; it is looked for again"))
        return code

    async def _sleep(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._is_over and time.monotonic() < end:
            await asyncio.sleep(0.1)
