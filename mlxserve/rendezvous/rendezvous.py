"""How a node finds out which group to form next, and when to leave the one it is in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

import msgspec

from mlxserve.config import Settings
from mlxserve.errors import UserError
from mlxserve.rendezvous.formation import Formation
from mlxserve.rendezvous.guest import Guest
from mlxserve.rendezvous.host import Host


class Rendezvous(Protocol):
    """A node's part in it."""

    async def open(self) -> None:
        """Begin. Raises UserError where that cannot be."""
        ...

    def close(self) -> None:
        """End."""
        ...

    async def next(self, tell: Callable[[str], None]) -> Formation:
        """The next group, waited for; `tell` is told who is. Raises FormationError where at first too few come."""
        ...

    async def left(self, formation: Formation) -> str:
        """Wait until this group is to be left for another; returns the reason."""
        ...

    def serves(self, formation: Formation) -> None:
        """All ranks of this group have loaded."""
        ...

    def over(self, formation: Formation, reason: str, final: bool) -> None:
        """This node's engine of the group has ended; `final`: the same group would end in the same way."""
        ...


class Whole:
    """Without `--min-ranks`: all planned ranks, always."""

    def __init__(self, settings: Settings) -> None:
        self._formation = Formation(settings.place, tuple(range(settings.place.world_size)))

    async def open(self) -> None:
        """See Rendezvous."""

    def close(self) -> None:
        """See Rendezvous."""

    async def next(self, tell: Callable[[str], None]) -> Formation:
        """See Rendezvous."""
        self._formation = msgspec.structs.replace(self._formation, number=self._formation.number + 1)
        return self._formation

    async def left(self, formation: Formation) -> str:
        """See Rendezvous."""
        return str(await asyncio.Event().wait())

    def serves(self, formation: Formation) -> None:
        """See Rendezvous."""

    def over(self, formation: Formation, reason: str, final: bool) -> None:
        """See Rendezvous."""


def rendezvous_of(settings: Settings) -> Rendezvous:
    """What the settings ask for. Raises UserError where ranks of this backend cannot go on without each other."""
    place = settings.place
    if settings.min_ranks in (0, place.world_size) or settings.task == "check":
        return Whole(settings)
    if place.backend != "ring":
        raise UserError(f"--min-ranks needs the ring backend, but the ranks were started for {place.backend}")
    return Host(settings) if place.rank == 0 else Guest(settings)
