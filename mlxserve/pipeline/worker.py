"""The life of a rank other than 0: the relay loop."""

from __future__ import annotations

from mlxserve.errors import RankLost
from mlxserve.pipeline.conveyor import Conveyor
from mlxserve.pipeline.link import AtBarrier, Enter, Link, Message
from mlxserve.pipeline.plan import Plan
from mlxserve.pipeline.relay import Relay
from mlxserve.pipeline.stage import Stage
from mlxserve.pipeline.trace import Tracer


class RelayLoop:
    """Carries out rank 0's plans, asleep between them."""

    def __init__(
        self, stage: Stage, relay: Relay, rank: int, split: list[range], link: Link, tracer: Tracer | None = None
    ) -> None:
        self._link = link
        self._tick = 0
        self.conveyor = Conveyor(stage, relay, rank, split, self._barrier, tracer)

    def carry_out(self, message: Message) -> None:
        """Carry out what rank 0 sent: a plan, which must be the next. Raises RankLost if it is not."""
        match message:
            case Plan() if message.tick == self._tick + 1:
                self._tick = message.tick + message.empty_ticks
                self.conveyor.advance(message)
            case _:
                raise RankLost(f"out of step with rank 0 after tick {self._tick}: {message}")

    def _barrier(self, tick: int) -> None:
        self._link.send(AtBarrier(tick))
        message = self._link.receive()
        if message != Enter(tick):
            raise RankLost(f"out of step with rank 0 at tick {tick}: {message}")
