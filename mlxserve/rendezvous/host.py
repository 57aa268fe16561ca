"""Rank 0's node: knows which ranks are there, and calls groups together."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import time
from collections.abc import Callable, Iterator

from mlxserve.bundle import build_id
from mlxserve.config import Settings
from mlxserve.errors import FormationError, UserError
from mlxserve.rendezvous.address import rendezvous_address
from mlxserve.rendezvous.attempts import Attempts, Ranks
from mlxserve.rendezvous.formation import Formation, named
from mlxserve.rendezvous.wire import Form, Here, Over, Refused, Wire

logger = logging.getLogger("mlxserve.node")

ABSENCE_SECONDS = 10.0
"""How long those that served a moment ago are waited for."""
SETTLED_SECONDS = 5.0
"""How long a rank must have been back before a group that serves is given up for a larger one."""
_LOOK_SECONDS = 1.0
"""Between two looks at what changes with time alone."""


class Host:
    """See Rendezvous."""

    def __init__(self, settings: Settings) -> None:
        self._place = settings.place
        self._least = settings.min_ranks
        self._patience = settings.form_timeout
        self._silence = settings.silence_timeout
        self._attempts = Attempts(time.monotonic)
        self._guests: dict[int, Wire] = {}
        self._since: dict[int, float] = {}
        self._changed = asyncio.Event()
        self._number = 0
        self._serving = False
        self._reason = ""
        """Why the group that forms cannot."""
        self._server: asyncio.Server | None = None
        self._trying: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """See Rendezvous."""
        if not await self._listens():
            self._trying = asyncio.create_task(self._try_to_listen())

    def close(self) -> None:
        """See Rendezvous."""
        if self._trying:
            self._trying.cancel()
        if self._server:
            self._server.close()
        for guest in self._guests.values():
            guest.close()

    async def next(self, tell: Callable[[str], None]) -> Formation:
        """See Rendezvous."""
        waits_until = time.monotonic() + (ABSENCE_SECONDS if self._number else self._patience)
        while not (ranks := self._choice(time.monotonic() > waits_until)):
            if self._number == 0 and time.monotonic() > waits_until:
                raise FormationError(self._too_few())
            tell(f"waiting for {named(self._place, self._absent) or 'what has failed to be tried again'}")
            await self._change()
        self._number += 1
        self._serving, self._reason = False, ""
        formation = Formation(self._place, tuple(sorted(ranks)), self._number)
        for rank in formation.members[1:]:
            self._guests[rank].say(Form(self._number, formation.members))
        if not formation.is_whole:
            logger.warning("going on without %s", named(self._place, formation.missing))
        return formation

    async def left(self, formation: Formation) -> str:
        """See Rendezvous."""
        while not (reason := self._reason or self._better(formation)):
            await self._change()
        return reason

    def serves(self, formation: Formation) -> None:
        """See Rendezvous."""
        self._serving = True
        self._attempts.served(frozenset(formation.members))

    def over(self, formation: Formation, reason: str, final: bool) -> None:
        """See Rendezvous."""
        if not self._serving:
            self._attempts.failed(frozenset(formation.members), final)

    async def _listens(self) -> bool:
        """False where this machine does not have the address: its cable may be out. Raises UserError."""
        host, port = rendezvous_address(self._place)
        try:
            self._server = await asyncio.start_server(self._welcome, host, port)
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            raise UserError(
                f"the nodes cannot meet at {host}:{port}, which --min-ranks needs beside the ring's ports: "
                f"{error.strerror or error}. Choose another --starting-port."
            ) from error
        return True

    async def _try_to_listen(self) -> None:
        """Until the address is there, no other rank can come."""
        logger.warning("no rank can come as long as this machine does not have %s", rendezvous_address(self._place)[0])
        try:
            while not await self._listens():
                await asyncio.sleep(_LOOK_SECONDS)
        except UserError as error:  # this rank may be serving alone: that goes on
            logger.error("%s", error)

    @property
    def _present(self) -> Ranks:
        return frozenset([0, *self._guests])

    @property
    def _absent(self) -> tuple[int, ...]:
        return tuple(sorted(frozenset(range(self._place.world_size)) - self._present))

    def _choice(self, waited_enough: bool) -> Ranks:
        """Who forms the next group now; empty: nobody yet."""
        ranks = self._attempts.best_of(self._present, self._least)
        return ranks if waited_enough or len(ranks) == self._place.world_size else frozenset()

    def _better(self, formation: Formation) -> str:
        """Why another group than this, which serves, is to form; empty: none is."""
        now = time.monotonic()
        settled = frozenset([0, *(rank for rank, since in self._since.items() if now - since >= SETTLED_SECONDS)])
        members = frozenset(formation.members)
        new = tuple(sorted(settled - members))
        if not (self._serving and new and members <= settled and self._attempts.may(settled)):
            return ""
        return f"{named(self._place, new)} {'is' if len(new) == 1 else 'are'} back: splitting the layers anew"

    def _too_few(self) -> str:
        return (
            f"only {len(self._present)} of {self._place.world_size} ranks were there within {self._patience:g} s, "
            f"--min-ranks {self._least} are needed: no word from {named(self._place, self._absent)}. "
            "Is mlxserve running there, with the same hosts file and flags, and not behind a firewall?"
        )

    async def _change(self) -> None:
        """Wait until somebody comes or goes, or a moment."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._changed.wait()

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take in a guest, and listen to it until it goes."""
        wire = Wire(reader, writer, self._silence)
        try:
            here = await wire.hear() if self._may_come(wire.peer) else None
            if not isinstance(here, Here) or not 0 < here.rank < self._place.world_size:
                return
            if here.build != build_id():
                wire.say(Refused(f"rank 0 runs mlxserve build {build_id()}, this is {here.build}: copy the same there"))
                return
            with self._as_guest(here.rank, wire):
                while message := await wire.hear():
                    if isinstance(message, Over):
                        self._gone(here.rank, message)
        finally:
            wire.close()

    def _may_come(self, address: str) -> bool:
        """Whether a rank may come from there: hosts files with an address for all have other networks, too."""
        known = {each.rpartition(":")[0].strip("[]") for addresses in self._place.ring for each in addresses}
        return bool(self._place.control) or address in known

    @contextlib.contextmanager
    def _as_guest(self, rank: int, wire: Wire) -> Iterator[None]:
        if (before := self._guests.get(rank)) is not None:
            before.close()
        self._guests[rank], self._since[rank] = wire, time.monotonic()
        self._changed.set()
        try:
            yield
        finally:
            if self._guests.get(rank) is wire:
                del self._guests[rank], self._since[rank]
                self._gone(rank, Over(self._number, "its node is gone"))

    def _gone(self, rank: int, over: Over) -> None:
        """A member of the group that is forming is not in it any more: nobody else need wait for it."""
        if over.number == self._number and not self._serving:
            self._reason = f"{named(self._place, (rank,))}: {over.reason}"
        self._changed.set()
