"""The ranks meet before they form the group, so that none begins while another is away.

MLX's ring lets no thread run while it forms, waits for ever for a rank that does not come, and takes the connection of
a rank that has ended since for one of a rank that is there. So the workers first come to rank 0, at the port where its
ring will listen, and form the group only when all have answered in the same round. Each word is a line:

    a worker                rank 0
    rank 1 of 3       →
                      ←     missing 2       once a second
    here              →
                      ←     missing
    here              →
                      ←     form
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from typing import Protocol

import msgspec

from mlxserve.config import Place
from mlxserve.errors import FormationError
from mlxserve.pipeline.addresses import own_address

_ROUND_SECONDS = 1.0
_ANSWER_SECONDS = 2.0
_CONNECT_SECONDS = 2.0
_SILENCE_SECONDS = 5.0
"""Longer than a round in which some rank does not answer."""
_RETRY_SECONDS = 0.3
_NAMING_SECONDS = 5.0
"""Before that, ranks that are still starting need not be named."""
_HEAD_START = 0.1
"""The last rank connects to rank 0 first: were that not listening yet, MLX would try again only a second later."""


def meeting_point(place: Place) -> tuple[str, int] | None:
    """Where rank 0 awaits the others; None where there is no ring, whose ports all ranks know."""
    if place.world_size == 1 or place.backend != "ring":
        return None
    return own_address(msgspec.structs.replace(place, rank=0)), int(place.addresses[0].rpartition(":")[2])


def meet(place: Place, timeout: float, say: Callable[[str], None]) -> None:
    """Wait until all ranks are there; at once where they have no meeting point.

    `say` is called once a second with what is waited for. Raises FormationError after `timeout` seconds, and where this
    rank cannot listen.
    """
    point = meeting_point(place)
    if point is None:
        return
    part = _Host(place, point) if place.rank == 0 else _Guest(place, point)
    try:
        asyncio.run(_attend(part, place, timeout, say))
    except TimeoutError:
        raise FormationError(not_formed(place, timeout, _names(place, part.missing))) from None


def not_formed(place: Place, seconds: float, missing: list[str]) -> str:
    """The sentence for a group that has not formed in time, where `missing` names the ranks that are not there."""
    if missing:
        who = f"no answer from {', '.join(missing)}"
    elif len(place.addresses) < place.world_size:
        who = "not all ranks have come"
    else:
        who = "all answer, but not as ranks of this group"
    return (
        f"rank {place.rank}: the group of {place.world_size} ranks has not formed within {seconds:g} s: {who}. "
        "Is mlxserve running there, with the same hosts file, and not behind a firewall?"
    )


class _Part(Protocol):
    @property
    def missing(self) -> list[int]:
        """The ranks that are not there."""
        ...

    async def take(self) -> None:
        """Wait until all are."""
        ...


async def _attend(part: _Part, place: Place, timeout: float, say: Callable[[str], None]) -> None:
    telling = asyncio.create_task(_tell(part, place, say))
    try:
        async with asyncio.timeout(timeout):  # wait_for of Python 3.11 may lose it where something comes at that moment
            await part.take()
    finally:
        telling.cancel()


async def _tell(part: _Part, place: Place, say: Callable[[str], None]) -> None:
    waited = 0.0
    while True:
        named = waited >= _NAMING_SECONDS and part.missing
        who = ", ".join(_names(place, part.missing)) if named else "the others"
        say(f"rank {place.rank} of {place.world_size} waits for {who}")
        await asyncio.sleep(_ROUND_SECONDS)
        waited += _ROUND_SECONDS


def _names(place: Place, ranks: list[int]) -> list[str]:
    return [f"rank {rank} ({place.addresses[rank]})" for rank in ranks]


class _Peer:
    """A connection and whoever is at the other end."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def say(self, *words: str | int) -> None:
        self._writer.write(" ".join(map(str, words)).encode() + b"\n")

    async def hear(self, seconds: float) -> list[str]:
        """The words of the next line; raises OSError where none comes, ValueError where it is not one."""
        async with asyncio.timeout(seconds):
            line = await self._reader.readline()
        if not line:
            raise ConnectionError("the connection was closed")
        return line.decode().split()

    async def answers(self, *words: str | int) -> bool:
        """Say `words`; whether the other is there."""
        try:
            self.say(*words)
            return await self.hear(_ANSWER_SECONDS) == ["here"]
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        self._writer.close()

    async def closed(self) -> None:
        """Close, and wait until that has happened."""
        self.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class _Host:
    """Rank 0's part."""

    def __init__(self, place: Place, point: tuple[str, int]) -> None:
        self._place = place
        self._point = point
        self._workers: dict[int, _Peer] = {}
        self._somebody_came = asyncio.Event()

    @property
    def missing(self) -> list[int]:
        return [rank for rank in range(1, self._place.world_size) if rank not in self._workers]

    async def take(self) -> None:
        server = await self._listen()
        try:
            while not await self._all_are_here():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_ROUND_SECONDS):
                        await self._somebody_came.wait()
                self._somebody_came.clear()
        finally:
            server.close()  # before the ring of any rank looks for that of this one
        for worker in self._workers.values():
            worker.say("form")
        await asyncio.gather(*(worker.closed() for worker in self._workers.values()))

    async def _listen(self) -> asyncio.Server:
        """Raises FormationError where others use the port. An address whose cable is out may come back."""
        host, port = self._point
        while True:
            try:
                return await asyncio.start_server(self._greet, host, port, reuse_address=True, reuse_port=True)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise FormationError(f"rank 0 cannot listen at {host}:{port}: {error.strerror}") from error
            await asyncio.sleep(_RETRY_SECONDS)

    async def _greet(self, reader: StreamReader, writer: StreamWriter) -> None:
        peer = _Peer(reader, writer)
        gone: _Peer | None = peer
        try:
            rank = _introduced(await peer.hear(_ANSWER_SECONDS), self._place.world_size)
            gone = self._workers.get(rank)
            self._workers[rank] = peer
            self._somebody_came.set()
        except (OSError, ValueError):
            pass  # somebody else knocked
        finally:
            if gone:
                gone.close()

    async def _all_are_here(self) -> bool:
        """Ask every worker that has come; those that do not answer have gone."""
        asked = dict(self._workers)
        found = await asyncio.gather(*(worker.answers("missing", *self.missing) for worker in asked.values()))
        for (rank, worker), is_here in zip(asked.items(), found, strict=True):
            if not is_here:
                worker.close()
                if self._workers.get(rank) is worker:
                    del self._workers[rank]
        return not self.missing and self._workers == asked


class _Guest:
    """A worker's part."""

    def __init__(self, place: Place, point: tuple[str, int]) -> None:
        self._place = place
        self._point = point
        self.missing = [0]

    async def take(self) -> None:
        while not await self._visit():
            self.missing = [0]
            await asyncio.sleep(_RETRY_SECONDS)
        if self._place.rank == self._place.world_size - 1:
            await asyncio.sleep(_HEAD_START)

    async def _visit(self) -> bool:
        """Stay with rank 0 until it says that all are there; false where it is gone."""
        host: _Peer | None = None
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                host = _Peer(*await asyncio.open_connection(*self._point))
            host.say("rank", self._place.rank, "of", self._place.world_size)
            while (words := await host.hear(_SILENCE_SECONDS)) != ["form"]:
                self.missing = [int(rank) for rank in words[1:]]
                host.say("here")
            return True
        except (OSError, ValueError):
            return False
        finally:
            if host:
                await host.closed()


def _introduced(words: list[str], world_size: int) -> int:
    """The worker that says `words`; raises ValueError where it is none of this group."""
    match words:
        case ["rank", rank, "of", size] if int(size) == world_size and 0 < int(rank) < world_size:
            return int(rank)
    raise ValueError(words)
