"""All ranks' spans on one clock, as events of the Trace Event Format, which Perfetto and chrome://tracing open.

Format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import Any

from mlxserve.pipeline.trace import Span

Event = dict[str, Any]

_PINGS = 64
"""Of so many last ones the quickest tells the time best."""
_LATE_TICKS = 64
"""Ticks after which a rank's part in an exchange is not waited for any more."""
MICROSECONDS = 1e6


class Clock:
    """What another process's `time.perf_counter` is ahead of this one's, by asking it for the time."""

    def __init__(self) -> None:
        self._answers: deque[tuple[float, float]] = deque(maxlen=_PINGS)

    def told(self, asked: float, answer: float, now: float) -> None:
        """Asked at `asked`, it said `answer`, which came at `now`."""
        self._answers.append((now - asked, answer - (asked + now) / 2))

    @property
    def ahead(self) -> float:
        """Seconds, off by no more than half of the quickest answer's way."""
        return min(self._answers, default=(0.0, 0.0))[1]

    @property
    def known(self) -> bool:
        """Whether it was ever told."""
        return bool(self._answers)


class Timeline:
    """Takes in each rank's spans, gives out events; `ts` and `dur` in microseconds, of Unix time."""

    def __init__(self, ranks: int) -> None:
        self.clocks = [Clock() for _ in range(ranks)]
        self._wall = time.time() - time.perf_counter()
        self._computed: list[tuple[int, Span]] = []
        self._exchanges: dict[int, dict[int, Span]] = defaultdict(dict)

    def add(self, rank: int, spans: list[Span]) -> None:
        """What `rank` did; its times become this process's."""
        for span in spans:
            if span.kind == "compute":
                self._computed.append((rank, span))
            else:
                self._exchanges[span.tick][rank] = span

    def events(self, all_of_them: bool = False) -> list[Event]:
        """What is complete: an exchange is when all ranks' parts are there. With `all_of_them` the others, too."""
        done = list(self._computed_events())
        newest = max(self._exchanges, default=0)
        for tick in sorted(self._exchanges):
            whole = len(self._exchanges[tick]) == len(self.clocks)
            if whole or all_of_them or tick < newest - _LATE_TICKS:
                done += self._exchange_events(self._exchanges.pop(tick))
        return done

    def _computed_events(self) -> Iterator[Event]:
        computed, self._computed = self._computed, []
        for rank, span in computed:
            kind = "decode" if span.length == 1 else "prompt"
            name = f"{kind} {span.rows} × {span.length}"  # noqa: RUF001
            yield self._event(rank, name, "compute", span.tick, self._start(rank, span), span.seconds)

    def _exchange_events(self, spans: dict[int, Span]) -> Iterator[Event]:
        """Until the last rank has come the others wait; from then on it is the relay that takes time."""
        last = max(self._start(rank, span) for rank, span in spans.items())
        for rank, span in spans.items():
            start = self._start(rank, span)
            waited = min(max(0.0, last - start), span.seconds)
            if waited:
                yield self._event(rank, "wait", "wait", span.tick, start, waited)
            yield self._event(rank, "relay", "relay", span.tick, start + waited, span.seconds - waited)

    def _start(self, rank: int, span: Span) -> float:
        return span.start - self.clocks[rank].ahead

    def _event(self, rank: int, name: str, category: str, tick: int, start: float, seconds: float) -> Event:
        times = {"ts": round((self._wall + start) * MICROSECONDS, 1), "dur": round(seconds * MICROSECONDS, 1)}
        return {"name": name, "cat": category, "ph": "X", "pid": rank, "tid": 0, **times, "args": {"tick": tick}}
