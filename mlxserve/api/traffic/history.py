"""What was going on in the last minutes and the last day, in steps: rings of a fixed size."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from array import array
from collections.abc import Callable
from typing import NoReturn

import msgspec

SAMPLE_SECONDS = 2
MINUTES = (SAMPLE_SECONDS, 150)
DAY = (300, 288)
"""Seconds of a step, and steps."""
MOST_FIRST_TOKENS = 256
"""Times to the first token that are kept of a step, for their median: the latest."""


class Sample(msgspec.Struct, frozen=True):
    """Sums since the start, by which steps are told apart."""

    prompt_tokens: float = 0
    """Those that were read, not those found in the cache."""
    generated_tokens: float = 0
    token_seconds: float = 0
    """Between tokens of the same answer…"""
    token_gaps: float = 0
    """…and how often there was such a time."""
    decode_rows: float = 0
    decode_steps: float = 0
    waiting: float = 0
    """Requests that waited, at each sample…"""
    samples: float = 0
    """…and how many samples there were."""
    prefix_found: float = 0
    prefix_asked: float = 0
    accepted: float = 0
    drafted: float = 0


class Series(msgspec.Struct):
    """A number for each step, the oldest first; null where there was nothing to measure. `times` are when they begin.

    `ttft` is the median of the times to the first token, `inter_token` the mean between tokens, in seconds; `batch` the
    mean of answers that a decode step goes on with; `queue` the mean of requests that wait; `prefix_hits` the share of
    prompt tokens that were stored, `acceptance` that of guessed tokens that were right.
    """

    step: int
    times: list[int]
    prompt_tokens_per_second: list[float]
    generated_tokens_per_second: list[float]
    ttft: list[float | None]
    inter_token: list[float | None]
    batch: list[float | None]
    queue: list[float]
    prefix_hits: list[float | None]
    acceptance: list[float | None]


RATES = ("prompt_tokens", "generated_tokens")
RATIOS = (
    ("token_seconds", "token_gaps"),
    ("decode_rows", "decode_steps"),
    ("waiting", "samples"),
    ("prefix_found", "prefix_asked"),
    ("accepted", "drafted"),
)


class Ring:
    """The latest steps of one length."""

    def __init__(self, step: int, count: int) -> None:
        """`count` steps of `step` seconds."""
        self._step = step
        self._count = count
        self._rates = [array("d", [0.0]) * count for _ in RATES]
        self._ratios = [array("d", [math.nan]) * count for _ in RATIOS]
        self._medians = array("d", [math.nan]) * count
        self._first_tokens = array("d")
        self._first = self._number = -1
        """The oldest step and the present one, counted from 1970."""
        self._base = self._last = Sample()
        self._begun = self._noted = 0.0
        self._told: Series | None = None
        """What was asked for last, as long as it holds: many pages may ask."""

    def note(self, now: float, sample: Sample, first_tokens: array[float]) -> None:
        """Count what has happened since the last time, with the times to the first token, into the present step."""
        number = int((now - SAMPLE_SECONDS / 2) // self._step)
        if self._number < 0 or number < self._number:  # the clock was set back
            self._first = self._number = number
            self._base, self._begun = sample, now
            self._clear(number)
        elif number > self._number:
            self._advance(number)
        self._first_tokens.extend(first_tokens)
        del self._first_tokens[:-MOST_FIRST_TOKENS]
        self._last, self._noted = sample, now
        self._write(number % self._count)
        self._told = None

    def series(self) -> Series:
        """All steps that there are."""
        self._told = self._told or self._series()
        return self._told

    def _series(self) -> Series:
        first = max(self._first, self._number - self._count + 1)
        numbers = range(first, self._number + 1) if self._number >= 0 else range(0)
        places = [number % self._count for number in numbers]
        prompt, generated = ([round(column[place], 3) for place in places] for column in self._rates)
        inter_token, batch, queue, hits, acceptance = ([_known(one[place]) for place in places] for one in self._ratios)
        return Series(
            step=self._step,
            times=[number * self._step for number in numbers],
            prompt_tokens_per_second=prompt,
            generated_tokens_per_second=generated,
            ttft=[_known(self._medians[place]) for place in places],
            inter_token=inter_token,
            batch=batch,
            queue=[waiting or 0.0 for waiting in queue],
            prefix_hits=hits,
            acceptance=acceptance,
        )

    def _advance(self, number: int) -> None:
        """Begin another step; nothing is known of those between."""
        for skipped in range(max(self._number + 1, number - self._count + 1), number + 1):
            self._clear(skipped)
        self._number = number
        self._base, self._begun = self._last, self._noted

    def _clear(self, number: int) -> None:
        place = number % self._count
        for rate in self._rates:
            rate[place] = 0.0
        for column in (*self._ratios, self._medians):
            column[place] = math.nan
        del self._first_tokens[:]

    def _write(self, place: int) -> None:
        seconds = self._noted - self._begun
        for column, name in zip(self._rates, RATES, strict=True):
            column[place] = self._gained(name) / seconds if seconds > 0 else 0.0
        for column, (part, whole) in zip(self._ratios, RATIOS, strict=True):
            of = self._gained(whole)
            column[place] = self._gained(part) / of if of > 0 else math.nan
        self._medians[place] = statistics.median(self._first_tokens) if self._first_tokens else math.nan

    def _gained(self, name: str) -> float:
        gained: float = getattr(self._last, name) - getattr(self._base, name)
        return gained


class History:
    """The last five minutes, and the last day."""

    def __init__(self) -> None:
        self._rings = {"minutes": Ring(*MINUTES), "day": Ring(*DAY)}
        self._first_tokens = array("d")

    def first_token(self, seconds: float) -> None:
        """An answer's first token came so long after its request."""
        if len(self._first_tokens) < MOST_FIRST_TOKENS:
            self._first_tokens.append(seconds)

    def note(self, now: float, sample: Sample) -> None:
        """Take down how things are at `now`, Unix time."""
        for ring in self._rings.values():
            ring.note(now, sample, self._first_tokens)
        del self._first_tokens[:]

    def minutes(self) -> Series:
        """In steps of two seconds."""
        return self._rings["minutes"].series()

    def day(self) -> Series:
        """In steps of five minutes."""
        return self._rings["day"].series()

    async def keep(self, sample: Callable[[], Sample]) -> NoReturn:
        """Take down what `sample` tells, from now on."""
        while True:
            self.note(time.time(), sample())
            await asyncio.sleep(SAMPLE_SECONDS - time.time() % SAMPLE_SECONDS)


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
