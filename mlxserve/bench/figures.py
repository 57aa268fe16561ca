"""What was measured, in numbers."""

from __future__ import annotations

from collections import Counter
from statistics import median

import msgspec

from mlxserve.bench.answer import Answer
from mlxserve.bench.load import Run


class Percentiles(msgspec.Struct, frozen=True):
    """Of a number of times in seconds, each by the nearest rank."""

    p50: float
    p95: float
    p99: float


class Rates(msgspec.Struct, frozen=True):
    """One round's tokens per second, of all streams together.

    `tokens_per_second`: all tokens, from the first request to the last byte, prompts counted.
    `decode_per_second`: tokens after each answer's first, over the time in which any answer was between its first
    token and its last.
    `together_per_second`: tokens while all answers were being generated; 0 where they never were.
    """

    tokens_per_second: float
    decode_per_second: float
    together_per_second: float


class Figures(msgspec.Struct, frozen=True):
    """Of the rounds of one workload at one number of streams; times are those of all rounds' answers."""

    workload: str
    streams: int
    rounds: list[Rates]
    requests: int
    tokens: int
    prompt_tokens: int
    cached_tokens: int
    counted_by_usage: bool
    first_token: Percentiles | None
    inter_token: Percentiles | None
    retries: int
    errors: dict[str, int]
    whole: bool

    @property
    def tokens_per_second(self) -> float:
        """The median round's."""
        return median([rates.tokens_per_second for rates in self.rounds] or [0.0])

    @property
    def decode_per_second(self) -> float:
        """The median round's."""
        return median([rates.decode_per_second for rates in self.rounds] or [0.0])


def figures(workload: str, streams: int, runs: list[Run]) -> Figures:
    """The figures of `runs`, one a round."""
    answers = [answer for run in runs for answer in run.answers]
    good = [answer for answer in answers if not answer.error]
    return Figures(
        workload=workload,
        streams=streams,
        rounds=[found for run in runs if (found := rates(run))],
        requests=len(answers),
        tokens=sum(answer.tokens for answer in good),
        prompt_tokens=sum(answer.prompt_tokens for answer in good),
        cached_tokens=sum(answer.cached_tokens for answer in good),
        counted_by_usage=all(answer.by_usage for answer in good),
        first_token=percentiles([answer.first_token for answer in good]),
        inter_token=percentiles([gap for answer in good for gap in answer.gaps]),
        retries=sum(answer.retries for answer in answers),
        errors=dict(Counter(answer.error for answer in answers if answer.error).most_common()),
        whole=all(run.whole for run in runs),
    )


def rates(run: Run) -> Rates | None:
    """The rates of one round; None where no request was answered."""
    good = [answer for answer in run.answers if not answer.error]
    if not good:
        return None
    tokens = sum(answer.tokens for answer in good)
    return Rates(
        tokens_per_second=tokens / max(_asking(run.answers), 1e-9),
        decode_per_second=(tokens - len(good)) / max(_generating(good), 1e-9),
        together_per_second=_together(good),
    )


def percentiles(values: list[float]) -> Percentiles | None:
    """Those of `values`; None where there are none."""
    if not values:
        return None
    ordered = sorted(values)
    return Percentiles(*(ordered[-(-len(ordered) * percent // 100) - 1] for percent in (50, 95, 99)))


def _together(answers: list[Answer]) -> float:
    """From the latest first token to the earliest last one."""
    start, end = max(answer.events[0] for answer in answers), min(answer.events[-1] for answer in answers)
    if end <= start:
        return 0.0
    per_event = [max(1.0, (answer.tokens - 1) / max(1, len(answer.events) - 1)) for answer in answers]
    tokens = sum(
        each * sum(start < at <= end for at in answer.events) for each, answer in zip(per_event, answers, strict=True)
    )
    return tokens / (end - start)


def _asking(answers: list[Answer]) -> float:
    """Seconds from the first request to the last byte."""
    return max(answer.ended for answer in answers) - min(answer.sent for answer in answers)


def _generating(answers: list[Answer]) -> float:
    """Seconds in which any answer was between its first token and its last."""
    seconds, until = 0.0, 0.0
    for first, last in sorted((answer.events[0], answer.events[-1]) for answer in answers):
        seconds += max(0.0, last - max(first, until))
        until = max(until, last)
    return seconds
