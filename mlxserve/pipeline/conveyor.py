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
        self._incoming: mx.array | None = None
        self._entering: mx.array | None = None
        self.busy_seconds = 0.0
        self.tokens = 0

    @property
    def in_flight(self) -> bool:
        """Whether a plan has entered that not every rank has carried out."""
        return any(plan and (plan.item or plan.operations) for plan in list(self._plans)[: self._last])

    def advance(self, plan: Plan, tokens: mx.array | None = None) -> tuple[Item, mx.array] | None:
        """Carry out `plan`'s tick and the empty ones after it.

        On rank 0 `tokens` [rows, length] are those of the plan's item.

        On rank 0, returns the item that left the last rank and its hidden state, if one did; in ticks that a plan
        takes together at most one can.
        """
        self._entering = tokens
        left = self._tick(plan)
        for number in range(plan.empty_ticks):
            left = self._tick(Plan(plan.tick + 1 + number, [])) or left
        return left

    def _tick(self, plan: Plan) -> tuple[Item, mx.array] | None:
        self._plans.appendleft(plan)
        outgoing = self._compute(self._plans[self._rank])
        parcels = [self._parcel(rank) for rank in range(self._last + 1)]
        if any(parcels):
            start = time.perf_counter()
            if not self._relay.waits_asleep:
                self._barrier(plan.tick)
            self._incoming = self._relay.exchange(parcels, outgoing)
            if self._tracer:
                self._tracer.note("exchange", plan.tick, start)
        else:
            self._incoming = None
        leaving = self._plans[self._last]
        if self._rank == 0 and leaving and leaving.item and self._incoming is not None:
            return leaving.item, self._incoming
        return None

    def _compute(self, plan: Plan | None) -> mx.array | None:
        if plan is None:
            return None
        for operation in plan.operations:
            self._stage.apply(operation)
        if plan.item is None:
            return None
        start = time.perf_counter()
        outgoing = self._run(plan.item)
        self.busy_seconds += time.perf_counter() - start
        self.tokens += plan.item.token_count()
        if self._tracer:
            self._tracer.note("compute", plan.tick, start, plan.item)
        return outgoing

    def _run(self, item: Item) -> mx.array | None:
        incoming, tokens = (self._incoming, None) if self._rank > 0 else (None, self._entering)
        hidden = self._stage.forward(item, incoming, tokens)
        state = self._stage.state(item.batch)
        if self._rank < self._last:
            mx.eval(hidden, state)
            return hidden
        if item.logits == "none":
            mx.eval(state)
            return None
        leaving = self._stage.leaving(hidden, item)
        mx.eval(leaving, state)
        return leaving

    def _parcel(self, rank: int) -> Parcel | None:
        """What `rank` puts into this tick's collective."""
        plan = self._plans[rank]
        if plan is None or plan.item is None:
            return None
        item = plan.item
        length = item.length if rank < self._last else item.leaving_length()
        if length == 0:
            return None
        boundary = self._stage.boundary(self._split[rank].stop - 1)
        return Parcel((item.rows, length, *boundary.trailing), boundary.dtype)
