"""The node: the parent process on every machine. Keeps one engine process alive; on rank 0 it also serves HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import stat
import time

import uvloop

from mlxserve import logs
from mlxserve.bars import Display, display_for
from mlxserve.bundle import build_id
from mlxserve.config import Settings
from mlxserve.engine import trace_file
from mlxserve.engine.client import EngineClient
from mlxserve.errors import MlxserveError
from mlxserve.front import Front
from mlxserve.keeper import STOP_SECONDS, EngineKeeper
from mlxserve.rendezvous.rendezvous import rendezvous_of

logger = logging.getLogger("mlxserve.node")

_DESCRIPTORS = 10_240
"""The most that macOS allows."""


def run(settings: Settings) -> int:
    """Serve until a signal or a failure that only the user can mend; returns the exit code. Raises MlxserveError."""
    display = display_for(settings.place.tells_progress, settings.log_format)
    logs.set_up(settings, display=display)
    _allow_descriptors()
    if settings.trace and settings.place.rank == 0:
        trace_file.begin(settings.trace)
    build_id()  # read while it is there: the folder with it may be removed, or its source replaced
    return uvloop.run(Node(settings, display).run())


class Node:
    """One machine's part of the server."""

    def __init__(self, settings: Settings, display: Display) -> None:
        self._settings = settings
        self._rank = settings.place.rank
        self._client = EngineClient(settings.recover_seconds)
        self._front = Front(self._client, settings) if self._rank == 0 and settings.task == "serve" else None
        self._rendezvous = rendezvous_of(settings)
        self._ending = asyncio.Event()
        self._keeper = EngineKeeper(
            settings, self._client, self._rendezvous, self._ending, self._begin_draining, self._front, display
        )
        self._draining: asyncio.Task[None] | None = None
        self._was_asked = False
        """Whether SIGTERM has come to this very node: a launcher sends it to all, and a worker's may be first."""
        self._failure: MlxserveError | None = None

    async def run(self) -> int:
        """See `run`."""
        self._end_on_signals()
        await self._rendezvous.open()
        if self._front:
            await self._front.start(lambda error: self._end_with(error))
        keeping = asyncio.create_task(self._keeper.run())
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait([keeping, ending], return_when=asyncio.FIRST_COMPLETED)
            if self._ending.is_set():
                logger.info("ending")
            code = await keeping
        finally:
            ending.cancel()
            self._rendezvous.close()
            if self._front:
                await self._front.stop()
        if self._failure:
            raise self._failure
        return code

    def _end_with(self, error: MlxserveError) -> None:
        self._failure = error
        self._ending.set()

    def _end_on_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._ending.set)
        loop.add_signal_handler(signal.SIGTERM, self._drain_or_end)
        place = self._settings.place
        # mpirun ends its ranks by itself, and closes their input.
        launched = place.world_size > 1 and place.backend != "mpi"
        if launched and stat.S_ISFIFO(os.fstat(0).st_mode):
            loop.add_reader(0, self._end_with_launcher)

    def _drain_or_end(self) -> None:
        """Let the answers that have begun come to their end first; asked a second time, end at once."""
        if self._was_asked or self._settings.task == "check":
            self._ending.set()
        self._was_asked = True
        self._begin_draining(f"rank {self._rank} was asked to end")

    def _begin_draining(self, reason: str) -> None:
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain(reason))

    async def _drain(self, reason: str) -> None:
        """End when nothing is being answered any more, or after `--drain-seconds`."""
        seconds = self._settings.drain_seconds
        if self._front:
            self._client.draining_since = time.time()
            if count := self._client.open_sequences:
                answers = "1 answer is" if count == 1 else f"{count} answers are"
                logger.info("%s: %s being finished, for %g s at most", reason, answers, seconds)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._client.quiet(), seconds)
        elif self._keeper.ask_to_drain():  # rank 0 then ends this rank, too
            await asyncio.sleep(seconds + STOP_SECONDS)
        self._ending.set()

    def _end_with_launcher(self) -> None:
        """Standard input is a launcher's pipe; its end means that the launcher is gone."""
        if not os.read(0, 4096):
            asyncio.get_running_loop().remove_reader(0)
            self._ending.set()


def _allow_descriptors() -> None:
    """Each connection takes one, and macOS allows 256 unless asked for more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
