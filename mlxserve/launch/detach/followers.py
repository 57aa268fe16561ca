"""The processes, on all hosts, that follow detached ranks until rank 0 serves."""

from __future__ import annotations

import asyncio
import signal

from mlxserve.launch.processes import Processes


class Followers(Processes):
    """When rank 0 serves, or this terminal is gone, only they end; otherwise the ranks, too, that they have begun."""

    _ranks_go_on = False

    def _report(self) -> int:
        if any(task.result() for task in self._running if task.done()):
            return super()._report()
        self._ranks_go_on = True
        return 0

    def _signal(self, number: signal.Signals) -> None:
        self._ranks_go_on = number == signal.SIGHUP
        super()._signal(number)

    async def _end(self) -> None:
        if not self._ranks_go_on:
            await super()._end()
        for task, process in self._running.items():
            if not task.done():
                process.kill()
        await asyncio.gather(*self._running)
