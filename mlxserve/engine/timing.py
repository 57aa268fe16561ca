"""Taking the time of ticks for the pace, while requests are served."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

from mlxserve.engine.pace import Kind, Pace
from mlxserve.pipeline.pipeline import Work


@dataclass(frozen=True)
class _Queued:
    """A pass that one rank computes or is about to."""

    tokens: int
    kind: Kind
    began: float
    """When it could be begun at the earliest, as `time.perf_counter` tells it."""


class Timing:
    """Notes how long each step takes. `begin` and `end` stand around it."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._mark: float | None = None
        self._under_way: deque[int] = deque([0] * pace.ranks, maxlen=pace.ranks)
        self._queued: deque[_Queued] = deque()
        self._finished = 0.0

    def begin(self) -> None:
        """A step begins, perhaps after idleness."""
        if self._mark is None:
            self._mark = time.perf_counter()

    def end(self, work: Work | None, wholly: bool, idle: bool, runs_on: bool) -> None:
        """The step is over in which `work` entered.

        `wholly`: and left; `idle`: nothing is left to do; `runs_on`: one rank still computes it.
        """
        now = time.perf_counter()
        assert self._mark is not None
        if self._pace.ranks == 1:
            self._note_queued(work, runs_on, self._mark, now)
        else:
            self._note_tick(work, now - self._mark, wholly)
        self._mark = None if idle else now

    def _note_tick(self, work: Work | None, seconds: float, wholly: bool) -> None:
        tokens = work.tokens.size if work else 0
        if wholly:
            self._under_way.extend([0] * self._pace.ranks)
            self._pace.note(tokens, seconds / self._pace.ranks, _kind(work))
            return
        self._under_way.appendleft(tokens)
        computing = [size for size in self._under_way if size]
        # Where only the last rank computes, what is done with its logits was timed as well.
        if any(list(self._under_way)[:-1]):
            self._pace.note(max(computing), seconds, "together" if len(computing) > 1 else "alone")

    def _note_queued(self, work: Work | None, runs_on: bool, began: float, now: float) -> None:
        """On one rank the tokens drawn in a decode step are waited for a step later."""
        if work is not None:
            self._queued.append(_Queued(work.tokens.size, _kind(work), began))
        finished = [self._queued.popleft() for _ in range(len(self._queued) - runs_on)]
        if not finished:
            return
        *before, last = finished
        if all(self._pace.knows(one.tokens, one.kind) for one in before):
            start = max(self._finished, finished[0].began)
            seconds = now - start - sum(self._pace.tick(one.tokens, one.kind) for one in before)
            if seconds > 0:  # else those before were faster than usual, and of the last nothing is known
                self._pace.note(last.tokens, seconds, last.kind)
        self._finished = now


def _kind(work: Work | None) -> Kind:
    """Of a pass alone: with logits at all positions it verifies guesses, or takes as long as if it did."""
    return "verifying" if work and work.logits == "all" else "alone"
