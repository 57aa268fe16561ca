"""Taking the time of ticks for the pace, while requests are served."""

from __future__ import annotations

import time
from collections import deque
from typing import Literal

from mlxserve.engine.pace import Pace
from mlxserve.pipeline.pipeline import Work

_Kind = Literal["decode", "verify", "chunk", "last", "nothing"]


class Timing:
    """Notes how long each step takes. `begin` and `end` stand around it."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._mark: float | None = None
        self._under_way: deque[int] = deque([0] * pace.ranks, maxlen=pace.ranks)
        self._before: tuple[_Kind, int, float] = ("nothing", 0, 0.0)

    def begin(self) -> None:
        """A step begins, perhaps after idleness."""
        if self._mark is None:
            self._mark = time.perf_counter()
            self._before = ("nothing", 0, 0.0)

    def end(self, work: Work | None, wholly: bool, idle: bool) -> None:
        """The step is over in which `work` entered; `wholly`: and left; `idle`: nothing is left to do."""
        now = time.perf_counter()
        assert self._mark is not None
        seconds = now - self._mark
        if self._pace.ranks == 1:
            self._note_queued(work, seconds)
        else:
            self._note_tick(work.tokens.size if work else 0, seconds, wholly)
        self._mark = None if idle else now

    def _note_tick(self, tokens: int, seconds: float, wholly: bool) -> None:
        if wholly:
            self._under_way.extend([0] * self._pace.ranks)
            self._pace.note(tokens, seconds / self._pace.ranks)
            return
        self._under_way.appendleft(tokens)
        computing = [size for size in self._under_way if size]
        if computing:
            self._pace.note(max(computing), seconds, together=len(computing) > 1)

    def _note_queued(self, work: Work | None, seconds: float) -> None:
        """On one rank passes are queued and waited for a step later: only some steps tell how long one took."""
        kind, size = _kind(work), work.tokens.size if work else 0
        kind_before, size_before, seconds_before = self._before
        if (kind, size) == (kind_before, size_before) == ("decode", size) or kind == kind_before in ("chunk", "verify"):
            self._pace.note(size, seconds)
        elif (kind_before, kind) == ("decode", "chunk") and self._pace.knows(size_before):
            self._pace.note(size, max(0.0, seconds_before + seconds - self._pace.tick(size_before)))
        elif (kind_before, kind) == ("last", "decode"):
            self._pace.note(size_before, seconds_before + seconds)
        self._before = (kind, size, seconds)


def _kind(work: Work | None) -> _Kind:
    if work is None:
        return "nothing"
    if work.tokens.shape[1] == 1:
        return "decode"
    if work.logits == "all":
        return "verify"
    return "chunk" if work.logits == "none" else "last"
