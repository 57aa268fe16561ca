"""The conveyor: carries items through the stages, one stage a tick, equally on every rank."""

from __future__ import annotations

import time
from collections import deque
from typing import Protocol

import mlx.core as mx

from mlxserve.pipeline.plan import Item, Plan
from mlxserve.pipeline.relay import Parcel, Relay
from mlxserve.pipeline.stage import Stage
from mlxserve.pipeline.trace import Tracer


class Barrier(Protocol):
    """Waits, asleep, until every rank is about to enter the collective of `tick`."""

    def __call__(self, tick: int) -> None: ...


class Conveyor:
    """This rank's part in every tick: at tick t, rank s carries out the plan of tick t - s."""

    def __init__(
        self, stage: Stage, relay: Relay, rank: int, split: list[range], barrier: Barrier, tracer: Tracer | None = None
    ) -> None:
        self._stage = stage
        self._relay = relay
        self._rank = rank
        self._last = len(split) - 1
        self._split = split
        self._barrier = barrier
        self._tracer = tracer
        self._plans: deque[Plan | None] = deque([None] * len(split), maxlen=len(split))
        self._incoming: list[mx.array] = []
        self._entering: mx.array | None = None
        self.busy_seconds = 0.0
        self.tokens = 0

    @property
    def in_flight(self) -> bool:
        """Whether a plan has entered that not every rank has carried out."""
        return any(plan and (plan.item or plan.operations) for plan in list(self._plans)[: self._last])

    def advance(self, plan: Plan, tokens: mx.array | None = None) -> tuple[Item, list[mx.array]] | None:
        """Carry out `plan`'s tick and the empty ones after it.

        On rank 0 `tokens` [rows, length] are those of the plan's item.

        On rank 0, returns the item that left the last rank and what that handed on, if one did; in ticks that a
        plan takes together at most one can.
        """
        self._entering = tokens
        left = self._tick(plan)
        for number in range(plan.empty_ticks):
            left = self._tick(Plan(plan.tick + 1 + number, [])) or left
        return left

    def _tick(self, plan: Plan) -> tuple[Item, list[mx.array]] | None:
        self._plans.appendleft(plan)
        outgoing = self._compute(self._plans[self._rank])
        parcels = [self._parcels(rank) for rank in range(self._last + 1)]
        if any(parcels):
            start = time.perf_counter()
            if not self._relay.waits_asleep:
                self._barrier(plan.tick)
            self._incoming = self._relay.exchange(parcels, outgoing)
            if self._tracer:
                self._tracer.note("exchange", plan.tick, start)
        else:
            self._incoming = []
        leaving = self._plans[self._last]
        if self._rank == 0 and leaving and leaving.item and self._incoming:
            return leaving.item, self._incoming
        return None

    def _compute(self, plan: Plan | None) -> list[mx.array]:
        if plan is None:
            return []
        for operation in plan.operations:
            self._stage.apply(operation)
        if plan.item is None:
            return []
        start = time.perf_counter()
        outgoing = self._run(plan.item)
        self.busy_seconds += time.perf_counter() - start
        self.tokens += plan.item.token_count()
        if self._tracer:
            self._tracer.note("compute", plan.tick, start, plan.item)
        return outgoing

    def _run(self, item: Item) -> list[mx.array]:
        incoming, tokens = (self._incoming, None) if self._rank > 0 else ([], self._entering)
        outgoing = self._stage.forward(item, incoming, tokens)
        if self._rank == self._last:
            outgoing = [] if item.logits == "none" else self._stage.leaving(outgoing, item)
        mx.eval(outgoing, self._stage.state(item.batch))
        return outgoing

    def _parcels(self, rank: int) -> list[Parcel]:
        """What `rank` puts into this tick's collective."""
        plan = self._plans[rank]
        if plan is None or plan.item is None:
            return []
        item = plan.item
        length = item.length if rank < self._last else item.leaving_length()
        return self._stage.parcels(self._split[rank].stop, item.rows, length) if length else []
