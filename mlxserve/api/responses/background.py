"""Responses that are made while no client waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from mlxserve.api.responses.run import Run


class Background:
    """Runs on whoever leaves. With `streams` its events are kept for those who ask for them, from the first on."""

    def __init__(self, run: Run, streams: bool) -> None:
        self.streams = streams
        self._run = run
        self._events: list[bytes] = []
        self._over = False
        self._told = asyncio.Event()
        self._task = asyncio.create_task(self._make())

    @property
    def log_size(self) -> int:
        """Bytes of the events that are kept."""
        return sum(map(len, self._events))

    async def cancel(self) -> None:
        """End it, if it has not ended, with what there is."""
        self.end()
        await asyncio.wait([self._task])
        if not self._run.narration.answer.ended:
            for event in self._run.narration.cancel():
                self._tell(self._run.encoded(event))
        self._finish()

    def end(self) -> None:
        """Stop making it, without a word."""
        self._task.cancel()

    async def follow(self, after: int) -> AsyncGenerator[bytes, None]:
        """Its events after the one with the number `after`, those to come too."""
        place = after + 1
        while True:
            told = self._told
            for event in self._events[place:]:
                place += 1
                yield event
            if self._over and place >= len(self._events):
                return
            await told.wait()

    def progress(self) -> str:
        """For the comments of a stream."""
        return self._run.progress()

    async def _make(self) -> None:
        async with aclosing(self._run.events()) as events:
            async for event in events:
                self._tell(event)
        self._finish()

    def _tell(self, event: bytes) -> None:
        if self.streams:
            self._events.append(event)
            self._told.set()
            self._told = asyncio.Event()

    def _finish(self) -> None:
        self._over = True
        self._told.set()
