"""All ranks as rank 0 sees them: itself, and the workers at the other ends of the links."""

from __future__ import annotations

import threading
import time
from typing import NoReturn

import mlx.core as mx
import msgspec

from mlxserve.config import Capacity, Settings
from mlxserve.engine.census import Census
from mlxserve.engine.channel import EngineChannel
from mlxserve.engine.messages import DrainAsked, Figures, Introduced, LinkFacts, Progress, RankFacts, Shutdown
from mlxserve.engine.meter import Meter, Rates
from mlxserve.engine.tracing import Tracing
from mlxserve.errors import RankLost, UserError
from mlxserve.models.folder import ModelSource
from mlxserve.models.progress import Report
from mlxserve.models.supply.giver import Giver
from mlxserve.models.supply.line import Line
from mlxserve.pipeline.capacity import levelled
from mlxserve.pipeline.control import Worker, dismiss, invite
from mlxserve.pipeline.identity import introduce
from mlxserve.pipeline.link import HEARTBEAT_SECONDS, Capacities, Drain, Leave, Loaded, LoadingNote, Message, Watch
from mlxserve.pipeline.relay import Relay
from mlxserve.pipeline.selftest import (
    BRIEF_SIZES,
    SIZES,
    RelayFindings,
    RelayTimes,
    TimeRelay,
    exchange_patterns,
    require_exact,
)
from mlxserve.pipeline.trace import Tracer


class Team:
    """Rank 0 and its workers: watched, heard, dismissed."""

    def __init__(self, channel: EngineChannel, settings: Settings) -> None:
        self._channel = channel
        self._settings = settings
        self._rates = [Rates() for _ in range(settings.place.world_size)]
        self._leaving = threading.Event()
        self._tracing: Tracing | None = None
        self._lines: list[Line] = []
        self.workers: list[Worker] = []
        self.capacities: list[Capacity] = []
        """What each rank has; empty where there is but one."""
        self.meter = Meter()

    def assemble(self, group: mx.distributed.Group) -> None:
        """Open the links to all workers and watch over them. Raises RankLost, UserError if versions differ."""
        self.workers, self._lines = invite(group, self._settings.place)
        for worker in self.workers:
            worker.on_message = lambda message, worker=worker: self._take_note(worker, message)  # type: ignore[misc]
            worker.start(self._lost)
        self._channel.on_shutdown = lambda order: self.dismiss(_leave(order))
        own = introduce(self._settings.place)
        advice = "copy the same mlxserve to every machine, as `mlxserve launch --deploy` does with the binary"
        for worker in self.workers:
            _require_equal(
                f"rank 0 ({own.host}) runs", own.versions, f"{worker.peer} runs", worker.hello.versions, advice
            )
        hellos = [own, *(worker.hello for worker in self.workers)]
        self.capacities = levelled([hello.host for hello in hellos], [hello.capacity for hello in hellos])
        self.tell(Capacities(self.capacities))

    def give(self, source: ModelSource, report: Report) -> None:
        """Give the workers, from now on, what they lack of the model."""
        if self._lines:
            Giver(source, report, self._cannot_give).start(self._lines)

    def introduce(self) -> None:
        """Tell the node who is there."""
        ranks = self._settings.place.world_size
        self._channel.send(Introduced(self.facts([range(0)] * ranks, [0.0] * ranks)))

    def watch(self) -> None:
        """Notice from now on a silent worker, and a tick that does not end."""
        Watch(list(self.workers), self.meter, self._settings.silence_timeout).start(self._lost)

    def trace(self, tracer: Tracer, path: str) -> None:
        """From now on, write what all ranks do into a file, until the process ends."""
        hosts = [introduce(self._settings.place).host, *(worker.hello.host for worker in self.workers)]
        names = [f"rank {rank} on {host}" for rank, host in enumerate(hosts)]
        self._tracing = Tracing(tracer, path, self.workers, names)
        self._channel.at_end.append(self._tracing.close)
        self._tracing.start()

    def await_loaded(self, own: Loaded) -> list[Loaded]:
        """Wait until every worker has its layers. Returns what each rank told, rank 0's `own` word first.

        Raises UserError if a worker's traits differ from rank 0's: another model, or cut differently.
        """
        ranks = [own]
        advice = "start all ranks with the same --model, --adapter, --split, --dtype and --parallel, and the same files"
        for worker in self.workers:
            answer = worker.receive()
            if not isinstance(answer, Loaded):
                raise RankLost(f"{worker.peer} said {answer} instead of having loaded")
            _require_equal("rank 0 has", own.traits, f"{worker.peer} has", answer.traits, advice)
            ranks.append(answer)
        return ranks

    def check_relay(self, relay: Relay) -> list[RelayFindings]:
        """Test the relay together with all workers, which from then on all prefer what was faster for rank 0.

        Returns what each rank found. Raises DamagedData where something arrived changed.
        """
        sizes = SIZES if self._settings.task == "check" else BRIEF_SIZES
        self.tell(TimeRelay(sizes))
        findings = [exchange_patterns(relay, 0, self._settings.place.world_size, sizes)]
        for worker in self.workers:
            answer = worker.receive()
            assert isinstance(answer, RelayFindings)
            findings.append(answer)
        require_exact(findings)
        self.tell(RelayTimes(findings[0].seconds))
        relay.prefer(findings[0].seconds)
        return findings

    def tell(self, message: Message) -> None:
        """Send `message` to every worker. Raises RankLost."""
        for worker in self.workers:
            worker.send(message)

    def await_figures(self) -> None:
        """Let a heartbeat of every worker come in."""
        time.sleep(2 * HEARTBEAT_SECONDS if self.workers else 0)

    def tokens(self) -> list[int]:
        """How many tokens have passed each rank."""
        return [self.meter.figures.tokens, *(worker.figures.tokens for worker in self.workers)]

    def facts(self, split: list[range], expected_seconds: list[float]) -> list[RankFacts]:
        """Every rank, without figures; `expected_seconds`: what a token takes on each."""
        hellos = [introduce(self._settings.place), *(worker.hello for worker in self.workers)]
        return [
            RankFacts(
                hello.rank,
                hello.host,
                hello.pid,
                hello.device,
                calls.start,
                calls.stop - 1,
                0,
                expected_seconds=seconds,
                link=LinkFacts((hello.rank + 1) % len(hellos) if self.workers else -1),
            )
            for hello, calls, seconds in zip(hellos, split, expected_seconds, strict=True)
        ]

    def show(self, facts: list[RankFacts], census: Census) -> None:
        """From now on, tell the node about these ranks and what they do once a second while that changes."""
        threading.Thread(target=self._report, args=(facts, census), daemon=True, name="figures").start()

    def current(self, facts: list[RankFacts]) -> list[RankFacts]:
        """`facts` with the figures of this moment."""
        figures = [self.meter.figures, *(worker.figures for worker in self.workers)]
        now = [rates.facts(one, beat) for rates, one, beat in zip(self._rates, facts, figures, strict=True)]
        # All ranks leave an exchange together, and who came last to it waited for nobody.
        seconds = min((one.link.seconds for one in now if one.link.seconds), default=0.0)
        return [
            msgspec.structs.replace(one, link=msgspec.structs.replace(one.link, seconds=round(seconds, 6)))
            for one in now
        ]

    def dismiss(self, leave: Leave) -> None:
        """Let every worker end."""
        self._leaving.set()
        dismiss(self.workers, leave)

    def _report(self, facts: list[RankFacts], census: Census) -> None:
        told = Figures(facts)
        while True:
            time.sleep(HEARTBEAT_SECONDS)
            now = Figures(census.completed(self.current(facts)), census.sums, census.kv_share)
            if now != told:
                told = now
                self._channel.send(now)

    def _take_note(self, worker: Worker, message: Message) -> bool:
        if self._tracing and self._tracing.take_note(worker.hello.rank, message):
            return True
        if isinstance(message, LoadingNote):
            self._channel.send(Progress("loading", f"{worker.peer}: {message.text}", worker.hello.rank, message.text))
            return True
        if isinstance(message, Loaded) and message.error:
            self._end_all(worker, message.exit_code, f"{worker.peer}: {message.error}")
        if isinstance(message, Drain):
            self._channel.send(DrainAsked(message.reason))
            return True
        if isinstance(message, Leave):
            self._end_all(worker, 0, message.reason)
        return False

    def _end_all(self, worker: Worker, exit_code: int, reason: str) -> NoReturn:
        """End every rank, in the thread that reads from `worker`, whose end it therefore does not wait for."""
        self._channel.decide(exit_code, reason)
        worker.ended.set()
        self.dismiss(Leave(reason, exit_code))
        self._channel.end(exit_code, reason)

    def _cannot_give(self, reason: str) -> None:
        self._channel.decide(UserError.exit_code, f"rank 0: {reason}")
        self.dismiss(Leave(f"rank 0: {reason}", UserError.exit_code))
        self._channel.end(UserError.exit_code, f"rank 0: {reason}")

    def _lost(self, reason: str) -> None:
        if not self._leaving.is_set():
            self._channel.end(RankLost.exit_code, reason)


def _leave(order: Shutdown) -> Leave:
    return Leave("the server ends" if order.exit_code == 0 else order.reason, order.exit_code)


def _require_equal(own: str, ours: dict[str, str], other: str, theirs: dict[str, str], advice: str) -> None:
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise UserError(f"{other} {name} {theirs.get(name)}, {own} {name} {value}: {advice}.")
