"""A group that is to form: which of the planned ranks are in it, and what an engine process must know of it."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO

import msgspec

from mlxserve.config import Place, Settings
from mlxserve.place import JACCL_VARIABLES

_RANK, _RING = "MLX_RANK", "MLX_HOSTFILE"
"""What MLX's ring reads: this process's rank, and the file with the addresses of all."""


class Formation(msgspec.Struct, frozen=True):
    """The `number`th group that rank 0's node has called together. `members` are planned ranks, in order."""

    planned: Place
    members: tuple[int, ...]
    number: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether all planned ranks are in it."""
        return len(self.members) == self.planned.world_size

    @property
    def missing(self) -> tuple[int, ...]:
        """The planned ranks that are not in it."""
        return tuple(rank for rank in range(self.planned.world_size) if rank not in self.members)

    @property
    def place(self) -> Place:
        """This node's place in the group."""
        if self.is_whole:
            return self.planned
        ring = tuple(self.planned.ring[rank] for rank in self.members) if len(self.members) > 1 else ()
        return msgspec.structs.replace(
            self.planned,
            rank=self.members.index(self.planned.rank),
            world_size=len(self.members),
            addresses=tuple(addresses[0] for addresses in ring),
            ring=ring,
        )

    def settings(self, settings: Settings) -> Settings:
        """`settings` for an engine of this group: layers per rank are named for the whole one alone."""
        if self.is_whole:
            return settings
        limits = settings.memory_limit
        return msgspec.structs.replace(
            settings,
            place=msgspec.structs.replace(self.place, capacity=settings.place.capacity),
            split=(),
            memory_limit=tuple(limits[rank] for rank in self.members) if len(limits) > 1 else limits,
        )

    @contextlib.contextmanager
    def variables(self, inherited: Mapping[str, str]) -> Iterator[tuple[dict[str, str], list[int]]]:
        """`inherited` as MLX must find it in this group, and the descriptors that a process needs for that."""
        if self.is_whole and not self.planned.has_fallen_back:
            yield dict(inherited), []
            return
        others = {name: value for name, value in inherited.items() if name not in (_RANK, _RING, *JACCL_VARIABLES)}
        if len(self.members) == 1:
            yield others, []
            return
        with tempfile.TemporaryFile("w+") as file:  # has no name, so that nothing is left of it
            _write(file, self.place)
            yield others | {_RANK: str(self.place.rank), _RING: f"/dev/fd/{file.fileno()}"}, [file.fileno()]


def _write(file: IO[str], place: Place) -> None:
    json.dump(place.ring, file)
    file.flush()
    file.seek(0)  # on macOS a descriptor that is opened by its number is read from where it stands


def named(place: Place, ranks: tuple[int, ...]) -> str:
    """`ranks` for people: "rank 1 (192.168.5.2)"."""
    return ", ".join(f"rank {rank} ({place.addresses[rank].rpartition(':')[0]})" for rank in ranks)
