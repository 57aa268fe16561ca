"""All ranks of a pipeline in one process: the workers know of rank 0's plans only what its links carry."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import mlx.core as mx

from mlxserve.pipeline.link import decode, encode
from mlxserve.pipeline.loading import LoadedModel
from mlxserve.pipeline.pipeline import ManyRanks, OneRank, Work
from mlxserve.pipeline.plan import CacheOperation
from mlxserve.pipeline.relay import Parcel
from mlxserve.pipeline.segments import Segments
from mlxserve.pipeline.worker import RelayLoop


class Meetings:
    """Stands in for the collectives: the nth exchange of a rank is the nth of every rank."""

    def __init__(self, ranks: int) -> None:
        self._been = [0] * ranks
        self._parcels: list[list[list[Parcel]]] = []
        self._given: dict[tuple[int, int], list[mx.array]] = {}

    def give(self, rank: int, parcels: list[list[Parcel]], mine: list[mx.array]) -> int:
        """`rank` enters its next exchange, whose number is returned."""
        number = self._been[rank]
        self._been[rank] += 1
        if number == len(self._parcels):
            self._parcels.append(parcels)
        assert self._parcels[number] == parcels, "the ranks do not agree on what travels"
        assert parcels[rank] == [Parcel(tuple(array.shape), array.dtype) for array in mine]
        if mine:
            self._given[number, rank] = mine
        return number

    def take(self, number: int, giver: int) -> list[mx.array]:
        """What `giver` gives, which may be nothing."""
        return self._given.pop((number, giver)) if self._parcels[number][giver] else []

    @property
    def over(self) -> bool:
        """Whether no rank waits in an exchange that another has not entered, and all was taken."""
        return len(set(self._been)) == 1 and not self._given


class MeetingRelay:
    """Takes the place of `Relay` on one rank."""

    waits_asleep = True

    def __init__(self, meetings: Meetings, rank: int, ranks: int, let_others_come: Callable[[], None]) -> None:
        self._meetings = meetings
        self._rank = rank
        self._before = (rank - 1) % ranks
        self._let_others_come = let_others_come

    def exchange(self, parcels: list[list[Parcel]], mine: list[mx.array]) -> list[mx.array]:
        """See Relay."""
        number = self._meetings.give(self._rank, parcels, mine)
        self._let_others_come()
        return self._meetings.take(number, self._before)


class Wire:
    """Takes the place of `Link` from rank 0 to a worker, who reads when it is let."""

    peer = "a worker"

    def __init__(self) -> None:
        self._sent: deque[bytes] = deque()

    def send(self, message: Any) -> None:
        """See Link."""
        self._sent.append(encode(message))

    def let(self, worker: RelayLoop) -> None:
        """Let `worker` carry out what was sent."""
        while self._sent:
            worker.carry_out(decode(self._sent.popleft()))


class AllRanks:
    """A pipeline of `models`, the parts of one model: rank 0's own, and in each of its ticks those of the workers."""

    def __init__(self, models: list[LoadedModel], batchable: bool) -> None:
        self.stages = [model.stage for model in models]
        for stage in self.stages:
            stage.reset()
            stage.segments = Segments()
        self.depth = len(models)
        self.entered = 0
        """Items."""
        self._ticks = 0
        self._workers: list[tuple[Wire, RelayLoop]] = []
        self._meetings = Meetings(self.depth)
        self._pipeline = self._put_together(models, batchable)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pipeline, name)

    @property
    def ticks(self) -> int:
        """How many there have been, those without a plan of their own included."""
        return self._pipeline._tick if isinstance(self._pipeline, ManyRanks) else self._ticks

    def tick(
        self, operations: list[CacheOperation], work: Work | None, nothing_follows: bool = False
    ) -> mx.array | None:
        """See Pipeline."""
        self.entered += work is not None
        self._ticks += 1
        logits = self._pipeline.tick(operations, work, nothing_follows)
        self._let_workers_follow()
        assert self._meetings.over
        return logits

    def _put_together(self, models: list[LoadedModel], batchable: bool) -> OneRank | ManyRanks:
        split = models[0].split
        if self.depth == 1:
            return OneRank(self.stages[0], batchable)
        for rank in range(1, self.depth):
            relay: Any = MeetingRelay(self._meetings, rank, self.depth, lambda: None)
            wire: Any = Wire()
            self._workers.append((wire, RelayLoop(self.stages[rank], relay, rank, split, wire)))
        relay = MeetingRelay(self._meetings, 0, self.depth, self._let_workers_follow)
        wires: list[Any] = [wire for wire, _ in self._workers]
        return ManyRanks(self.stages[0], relay, split, wires, batchable)

    def _let_workers_follow(self) -> None:
        """In the order of their ranks: what each takes, the one before has given by then."""
        for wire, worker in self._workers:
            wire.let(worker)
