"""`--trace`: every rank notes down what it does, workers tell rank 0 once a second, and rank 0 writes the file."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Sequence

from mlxserve.engine.timeline import Event, Timeline
from mlxserve.engine.trace_file import TraceFile
from mlxserve.errors import RankLost
from mlxserve.pipeline.control import Worker
from mlxserve.pipeline.link import ClockAsked, ClockTold, Link, Message, Traced
from mlxserve.pipeline.trace import Tracer

logger = logging.getLogger("mlxserve.engine")

_SECONDS = 1.0
_TIMES_ASKED = 10
"""How often the time is asked for meanwhile: a busy machine may be slow to answer, but not always."""


class Tracing:
    """Rank 0's part."""

    def __init__(self, tracer: Tracer, path: str, workers: Sequence[Worker], names: Sequence[str]) -> None:
        """`names`: each rank's, for people."""
        self._tracer = tracer
        self._workers = workers
        self._file = TraceFile(path)
        self._writing = threading.Lock()
        self._timeline = Timeline(1 + len(workers))
        self._timeline.clocks[0].told(0, 0, 0)
        self._named: list[Event] = [
            {"name": "process_name", "ph": "M", "pid": rank, "tid": 0, "args": {"name": name}}
            for rank, name in enumerate(names)
        ]

    def start(self) -> None:
        """Write from now on, in a thread."""
        threading.Thread(target=self._write_on, daemon=True, name="trace").start()

    def take_note(self, rank: int, message: Message) -> bool:
        """Take in what a worker tells for the trace. Returns whether it is that."""
        match message:
            case ClockTold():
                with self._writing:
                    self._timeline.clocks[rank].told(message.asked, message.now, time.perf_counter())
                return True
            case Traced():
                with self._writing:
                    self._timeline.add(rank, message.spans)
                return True
        return False

    def close(self) -> None:
        """Write what there still is."""
        with contextlib.suppress(OSError):
            self._write(all_of_it=True)

    def _write_on(self) -> None:
        try:
            while True:
                for _ in range(_TIMES_ASKED):
                    for worker in self._workers:
                        worker.send(ClockAsked(time.perf_counter()))
                    time.sleep(_SECONDS / _TIMES_ASKED)
                self._write()
        except RankLost:
            return  # which others see, too
        except OSError as error:
            logger.warning("the trace ends here: it cannot be written: %s", error.strerror or error)

    def _write(self, all_of_it: bool = False) -> None:
        with self._writing:
            if not all(clock.known for clock in self._timeline.clocks):
                return
            self._timeline.add(0, self._tracer.take())
            events = [*self._named, *self._timeline.events(all_of_it)]
            self._named = []
            self._file.append(events)


class TraceSender:
    """A worker's part."""

    def __init__(self, tracer: Tracer, link: Link) -> None:
        self._tracer = tracer
        self._link = link

    def start(self) -> None:
        """Send from now on, in a thread."""
        threading.Thread(target=self._send_on, daemon=True, name="trace").start()

    def _send_on(self) -> None:
        with contextlib.suppress(RankLost):  # which others see, too
            while True:
                time.sleep(_SECONDS)
                if spans := self._tracer.take():
                    self._link.send(Traced(spans))


def tell_time(link: Link, message: Message) -> bool:
    """Answer where rank 0 asks for this process's time. Returns whether it does."""
    if isinstance(message, ClockAsked):
        link.send(ClockTold(message.asked, time.perf_counter()))
        return True
    return False
