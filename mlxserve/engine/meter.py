"""What each rank has done and holds, for /health and /traffic: counted by the MLX thread, read by others."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import mlx.core as mx
import msgspec

from mlxserve.engine.messages import LinkFacts, MemoryFacts, RankFacts
from mlxserve.pipeline.free_memory import room_bytes, total_bytes
from mlxserve.pipeline.link import Heartbeat
from mlxserve.pipeline.relay import Traffic

WINDOW_SECONDS = 5.0
_UNMEASURED_SECONDS = 120.0
"""What a tick may take before a few have been timed: kernels are compiled in the first."""
_MEASURED = 20
"""Ticks that are a few."""
_LONGER = 20.0
"""How many times the longest tick so far one may take: contexts grow, and machines do other things, too."""
_LEAST_SECONDS = 20.0
SETTLED_SECONDS = 0.5
"""After the last tick: what it left to be computed (prefixes are copied) and to be freed is done by then."""
_LOOK_SECONDS = 1.0
"""Between two looks at what takes longer than a tick should be held up for."""


class Meter:
    """This rank's figures so far, refreshed by the thread that touches MLX."""

    def __init__(self) -> None:
        self.figures = Heartbeat()
        self.working_since: float | None = None
        """By `time.monotonic`, while a tick is being carried out."""
        self._ticks = 0
        self._longest = 0.0
        self._weights_bytes = 0
        self._total_bytes = total_bytes()
        self._free_bytes = 0
        self._exchange_seconds = 0.0
        self._next_look = 0.0

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around a tick."""
        self.working_since = time.monotonic()
        yield
        self._ticks += 1
        self._longest = max(self._longest, time.monotonic() - self.working_since)
        self.working_since = None

    @property
    def longest_tick(self) -> float:
        """Seconds after which a tick waits for something that will not come: by those that were timed."""
        if self._ticks < _MEASURED:
            return _UNMEASURED_SECONDS
        return max(_LEAST_SECONDS, _LONGER * self._longest)

    def loaded(self) -> None:
        """What this process holds now are weights. To be called by the MLX thread alone, as the next."""
        self._weights_bytes = mx.get_active_memory()

    def refresh(self, busy_seconds: float, tokens: int, relay: Traffic | None = None) -> None:
        """Take down counters and memory."""
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            self._free_bytes = max(0, room_bytes())
            self._exchange_seconds = relay.latency() if relay else 0.0
        self.figures = Heartbeat(
            busy_seconds,
            tokens,
            mx.get_active_memory(),
            mx.get_peak_memory(),
            self._weights_bytes,
            mx.get_cache_memory(),
            self._free_bytes,
            self._total_bytes,
            relay.given_bytes if relay else 0,
            self._exchange_seconds,
        )


class Rates:
    """One rank's counters over the last seconds, as rates."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, Heartbeat]] = deque()

    def facts(self, facts: RankFacts, figures: Heartbeat) -> RankFacts:
        """`facts` with the rates that follow from `figures`, taken now."""
        now = time.monotonic()
        self._samples.append((now, figures))
        while len(self._samples) > 2 and now - self._samples[0][0] > WINDOW_SECONDS:
            self._samples.popleft()
        then, before = self._samples[0]
        seconds = max(now - then, 1e-9)
        link = LinkFacts(
            facts.link.to,
            figures.exchange_seconds,
            round((figures.given_bytes - before.given_bytes) / seconds) if then < now else 0,
        )
        return msgspec.structs.replace(
            facts,
            memory_bytes=figures.memory_bytes or facts.memory_bytes,
            peak_memory_bytes=figures.peak_memory_bytes,
            tokens_per_second=round((figures.tokens - before.tokens) / seconds, 1) if then < now else 0.0,
            busy=round(min(1.0, (figures.busy_seconds - before.busy_seconds) / seconds), 3) if then < now else 0.0,
            memory=MemoryFacts(
                weights=figures.weights_bytes,
                cache=figures.cache_bytes,
                free=figures.free_bytes,
                total=figures.total_bytes,
            ),
            link=link,
        )
