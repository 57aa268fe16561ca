"""What a rank does tick by tick, for `--trace`: noted down by the MLX thread, taken away by another."""

from __future__ import annotations

import time
from typing import Literal

import msgspec

from mlxserve.pipeline.plan import Item

_MOST = 100_000
"""Spans that are kept while nobody takes them away."""


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Something that took time on one rank. `start` is by its own `time.perf_counter`, in seconds."""

    kind: Literal["compute", "exchange"]
    tick: int
    start: float
    seconds: float
    rows: int = 0
    length: int = 0
    """Tokens of each row; 1: a decode step."""


class Tracer:
    """One rank's notebook."""

    def __init__(self) -> None:
        self._spans: list[Span] = []

    def note(self, kind: Literal["compute", "exchange"], tick: int, start: float, item: Item | None = None) -> None:
        """Note that this rank has done something from `start` until now."""
        if len(self._spans) < _MOST:
            shape = (item.rows, item.length) if item else (0, 0)
            self._spans.append(Span(kind, tick, start, time.perf_counter() - start, *shape))

    def take(self) -> list[Span]:
        """All since the last time. May be called by any thread."""
        spans, self._spans = self._spans, []
        return spans


def tracer_for(file: str) -> Tracer | None:
    """One where a trace is wanted."""
    return Tracer() if file else None
