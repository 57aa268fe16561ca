"""A worker's node: comes to rank 0's, stays in touch, and is told which groups to form."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from mlxserve.bundle import build_id
from mlxserve.config import Settings
from mlxserve.errors import FormationError, UserError
from mlxserve.rendezvous.address import rendezvous_address
from mlxserve.rendezvous.formation import Formation
from mlxserve.rendezvous.wire import Form, Here, Over, Refused, Wire

_RETRY_SECONDS = 0.5


class Guest:
    """See Rendezvous."""

    def __init__(self, settings: Settings) -> None:
        self._place = settings.place
        self._patience = settings.form_timeout
        self._silence = settings.silence_timeout
        self._wire: Wire | None = None
        self._form: Form | None = None
        """The host's last word, until this node goes by it."""
        self._refusal = ""
        self._met_before = False
        self._told = asyncio.Event()
        self._attending: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """See Rendezvous."""
        self._attending = asyncio.create_task(self._attend())

    def close(self) -> None:
        """See Rendezvous."""
        if self._attending:
            self._attending.cancel()

    async def next(self, tell: Callable[[str], None]) -> Formation:
        """See Rendezvous. Raises UserError where the host refuses this node."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if self._has_met else self._patience):
                await self._told.wait()
        if not self._has_met:
            host, port = rendezvous_address(self._place)
            raise FormationError(
                f"rank {self._place.rank}: no word from rank 0 at {host}:{port} within {self._patience:g} s. "
                "Is mlxserve running there, with the same hosts file and --min-ranks, and not behind a firewall?"
            )
        await self._told.wait()
        if self._refusal:
            raise UserError(self._refusal)
        self._told.clear()
        assert self._form is not None
        return Formation(self._place, self._form.members, self._form.number)

    async def left(self, formation: Formation) -> str:
        """See Rendezvous."""
        await self._told.wait()
        return "rank 0 calls another group together"

    def serves(self, formation: Formation) -> None:
        """See Rendezvous."""

    def over(self, formation: Formation, reason: str, final: bool) -> None:
        """See Rendezvous."""
        if self._wire:
            self._wire.say(Over(formation.number, reason))

    @property
    def _has_met(self) -> bool:
        """Whether the host has ever said anything."""
        return self._met_before or (self._wire is not None and self._wire.has_heard)

    async def _attend(self) -> None:
        while not self._refusal:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._silence):
                    reader, writer = await asyncio.open_connection(*rendezvous_address(self._place))
                await self._listen(Wire(reader, writer, self._silence))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _listen(self, wire: Wire) -> None:
        """Until the host is gone."""
        self._wire = wire
        try:
            wire.say(Here(self._place.rank, build_id()))
            while message := await wire.hear():
                if isinstance(message, Form):
                    self._form = message
                    self._told.set()
                elif isinstance(message, Refused):
                    self._refusal = message.reason
                    self._told.set()
        finally:
            self._met_before = self._has_met
            self._wire = None
            wire.close()
