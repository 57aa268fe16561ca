"""The life of a rank other than 0: the relay loop."""

from __future__ import annotations

from mlxserve.errors import RankLost
from mlxserve.pipeline.conveyor import Conveyor
from mlxserve.pipeline.link import AtBarrier, Enter, Link, Message
from mlxserve.pipeline.plan import Plan
from mlxserve.pipeline.relay import Relay
from mlxserve.pipeline.stage import Stage


class RelayLoop:
    """Carries out rank 0's plans, asleep between them."""

    def __init__(self, stage: Stage, relay: Relay, rank: int, split: list[range], link: Link) -> None:
        self._link = link
        self._tick = 0
        self.conveyor = Conveyor(stage, relay, rank, split, self._barrier)

    def carry_out(self, plan: Message) -> None:
        """Carry out `plan`, which must be the next. Raises RankLost if it is not."""
        if not isinstance(plan, Plan) or plan.tick != self._tick + 1:
            raise RankLost(f"out of step with rank 0 after tick {self._tick}: {plan}")
        self._tick = plan.tick + plan.empty_ticks
        self.conveyor.advance(plan)

    def _barrier(self, tick: int) -> None:
        self._link.send(AtBarrier(tick))
        message = self._link.receive()
        if message != Enter(tick):
            raise RankLost(f"out of step with rank 0 at tick {tick}: {message}")
