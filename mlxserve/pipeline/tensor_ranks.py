"""Tensor parallel: all ranks run every layer together, each its share of it.

Rank 0 sends each tick's plan with the tokens themselves, and all carry it out at once: nothing is on its way between
two ticks. The sums that the layers make (see `tensor_sums`) keep the ranks in step within a tick: a rank waits in one
only while the others, who have the same plan, compute their shares.
"""

from __future__ import annotations

import time

import mlx.core as mx
import msgspec

from mlxserve.errors import RankLost
from mlxserve.pipeline.link import Link, Message
from mlxserve.pipeline.pipeline import Work, token_rows
from mlxserve.pipeline.plan import CacheOperation, Plan
from mlxserve.pipeline.relay import Traffic
from mlxserve.pipeline.stage import Stage
from mlxserve.pipeline.tensor_sums import TensorSums
from mlxserve.pipeline.trace import Tracer


class TensorPart:
    """What every rank does in a tick."""

    def __init__(self, stage: Stage, sums: TensorSums, tracer: Tracer | None = None) -> None:
        self._stage = stage
        self._sums = sums
        self._tracer = tracer
        self.busy_seconds = 0.0
        self.tokens = 0

    def advance(self, plan: Plan) -> mx.array | None:
        """Carry out `plan`. Returns logits [rows, positions, vocabulary], not evaluated, where its item wants any.

        On a worker nobody reads them, so they are never computed.
        """
        for operation in plan.operations:
            self._stage.apply(operation)
        if plan.item is None:
            return None
        start, summed = time.perf_counter(), self._sums.seconds
        with self._sums.in_place():
            logits = self._stage.forward_whole(mx.array(plan.item.tokens), plan.item)
        mx.eval(self._stage.state(plan.item.batch))
        self.busy_seconds += time.perf_counter() - start - (self._sums.seconds - summed)
        self.tokens += plan.item.token_count()
        if self._tracer:
            self._tracer.note("compute", plan.tick, start, plan.item)
        return logits


class TensorRanks:
    """Rank 0 of several: the pipeline in which every item leaves in the tick in which it enters."""

    depth = 1
    runs_on = False
    starts_slowly = False
    in_flight = False

    def __init__(self, part: TensorPart, sums: TensorSums, links: list[Link], batchable: bool) -> None:
        self._part = part
        self._links = links
        self._tick = 0
        self.batchable = batchable
        self.relay: Traffic | None = sums

    @property
    def busy_seconds(self) -> float:
        """Seconds that this rank has computed."""
        return self._part.busy_seconds

    @property
    def tokens(self) -> int:
        """Tokens that have passed this rank."""
        return self._part.tokens

    def tick(
        self, operations: list[CacheOperation], work: Work | None, nothing_follows: bool = False
    ) -> mx.array | None:
        """See Pipeline."""
        item = msgspec.structs.replace(work.item(), tokens=token_rows(work.tokens)) if work else None
        self._tick += 1
        plan = Plan(self._tick, operations, item)
        for link in self._links:
            link.send(plan)
        return self._part.advance(plan)


class TensorLoop:
    """The life of a rank other than 0: carries out rank 0's plans, asleep between them."""

    def __init__(self, part: TensorPart) -> None:
        self.part = part
        self._tick = 0

    def carry_out(self, message: Message) -> None:
        """Carry out what rank 0 sent: a plan, which must be the next. Raises RankLost if it is not."""
        if not isinstance(message, Plan) or message.tick != self._tick + 1:
            raise RankLost(f"out of step with rank 0 after tick {self._tick}: {message}")
        self._tick = message.tick
        self.part.advance(message)
