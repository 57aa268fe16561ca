"""Rank 0's view of the whole pipeline: work goes in, logits come out."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol, cast

import mlx.core as mx

from mlxserve.errors import RankLost
from mlxserve.pipeline.conveyor import Conveyor
from mlxserve.pipeline.link import AtBarrier, Enter, Link
from mlxserve.pipeline.plan import CacheOperation, Item, Logits, Plan
from mlxserve.pipeline.relay import Relay, Traffic
from mlxserve.pipeline.stage import Stage
from mlxserve.pipeline.trace import Tracer


@dataclass(frozen=True)
class Work:
    """What enters the pipeline in one tick: `tokens` [rows, length] of a batch; see `plan.Item`."""

    batch: int
    tokens: mx.array
    lengths: list[int]
    logits: Logits

    def item(self) -> Item:
        """What the plan says of it: not the tokens themselves, which only rank 0 needs."""
        rows, length = self.tokens.shape
        return Item(self.batch, [[0] * length] * rows, self.lengths, self.logits)


def token_rows(tokens: mx.array) -> list[list[int]]:
    """`tokens` [rows, length] as integers; waits until they are computed."""
    return cast("list[list[int]]", tokens.tolist())


class Pipeline(Protocol):
    """One model over one or many ranks."""

    depth: int
    """Ticks from an item's entry until its logits are there."""
    batchable: bool
    runs_on: bool
    """Whether what `tick` returns is computed while the next item enters."""
    starts_slowly: bool
    """Whether to start computing what `tick` returns takes about as long as to compute it, but for the first part,
    which it has started itself."""
    relay: Traffic | None
    """What carries hidden states between the ranks, where there are several."""

    @property
    def busy_seconds(self) -> float:
        """Seconds that this rank has computed."""
        ...

    @property
    def tokens(self) -> int:
        """Tokens that have passed this rank."""
        ...

    @property
    def in_flight(self) -> bool:
        """Whether something has entered that has not left."""
        ...

    def tick(
        self, operations: list[CacheOperation], work: Work | None, nothing_follows: bool = False
    ) -> mx.array | None:
        """Move everything on by one stage; with `nothing_follows` until `work` has left.

        Returns the logits [rows, positions, vocabulary] of the item that left, if one did that wanted logits; they are
        not evaluated. Items leave in the order in which they entered. Raises RankLost.
        """
        ...


class OneRank:
    """The pipeline of a single machine: every item leaves in the tick in which it enters."""

    depth = 1
    runs_on = True
    in_flight = False
    relay: Traffic | None = None

    def __init__(self, stage: Stage, batchable: bool, tracer: Tracer | None = None) -> None:
        self._stage = stage
        self._tracer = tracer
        self.starts_slowly = mx.default_device() == mx.Device(mx.cpu)  # where MLX queues ten operations at most
        self._ticks = 0
        self._item: Item | None = None
        self._last_tick = time.perf_counter()
        self._working = False
        self.batchable = batchable
        self.busy_seconds = 0.0
        self.tokens = 0

    def tick(
        self, operations: list[CacheOperation], work: Work | None, nothing_follows: bool = False
    ) -> mx.array | None:
        """See Pipeline."""
        self._count_time(work)
        for operation in operations:
            self._stage.apply(operation)
        if work is None:
            return None
        item = self._item = work.item()
        self.tokens += item.token_count()
        logits = self._stage.forward_whole(work.tokens, item, start=self.starts_slowly)
        if logits is None:
            mx.eval(self._stage.state(work.batch))
        return logits

    def _count_time(self, work: Work | None) -> None:
        """From a tick with work to the next tick somebody computes."""
        now = time.perf_counter()
        if self._working:
            self.busy_seconds += now - self._last_tick
            if self._tracer:
                self._tracer.note("compute", self._ticks, self._last_tick, self._item)
        self._ticks += 1
        self._last_tick, self._working = now, work is not None


class ManyRanks:
    """Rank 0 of several: sends each tick's plan over the links and takes its own part in it."""

    runs_on = False
    starts_slowly = False

    def __init__(
        self,
        stage: Stage,
        relay: Relay,
        split: list[range],
        links: list[Link],
        batchable: bool,
        tracer: Tracer | None = None,
    ) -> None:
        self._stage = stage
        self._links = links
        self._conveyor = Conveyor(stage, relay, 0, split, self._barrier, tracer)
        self._tick = 0
        self.depth = len(split)
        self.batchable = batchable
        self.relay: Traffic | None = relay

    @property
    def in_flight(self) -> bool:
        """See Pipeline."""
        return self._conveyor.in_flight

    @property
    def busy_seconds(self) -> float:
        """Seconds that this rank has computed."""
        return self._conveyor.busy_seconds

    @property
    def tokens(self) -> int:
        """Tokens that have passed this rank."""
        return self._conveyor.tokens

    def tick(
        self, operations: list[CacheOperation], work: Work | None, nothing_follows: bool = False
    ) -> mx.array | None:
        """See Pipeline."""
        alone = nothing_follows and not self._conveyor.in_flight
        item = None
        if work:
            mx.eval(work.tokens)  # a stage entered while they were still in the making was seen to end the process
            item = work.item()
        plan = Plan(self._tick + 1, operations, item, self.depth - 1 if alone else 0)
        self._tick = plan.tick + plan.empty_ticks
        for link in self._links:
            link.send(plan)
        left = self._conveyor.advance(plan, work.tokens if work else None)
        if left is None:
            return None
        item, leaving = left
        return self._stage.finish(leaving, item)

    def _barrier(self, tick: int) -> None:
        for link in self._links:
            message = link.receive()
            if message != AtBarrier(tick):
                raise RankLost(f"{link.peer} is out of step at tick {tick}: {message}")
        for link in self._links:
            link.send(Enter(tick))
