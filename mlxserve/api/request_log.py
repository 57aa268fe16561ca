"""One line in the log for each request that was answered, or left; never a word of its text."""

from __future__ import annotations

import logging

from mlxserve.text.generation import Generation

log = logging.getLogger("mlxserve.api")

CLIENT_GONE = 499
"""The status of requests whose client left, as nginx has it."""


def log_answer(name: str, status: int, generations: list[Generation], started: float) -> None:
    """`started` by `time.perf_counter`."""
    tokens = sum(generation.completion_tokens for generation in generations)
    first = min(generation.first_token_at for generation in generations)
    last = max(generation.last_token_at for generation in generations)
    log.info(
        "%s status=%d prompt_tokens=%d completion_tokens=%d ttft=%.3fs tokens_per_second=%.1f finish=%s",
        name,
        status,
        sum(map(len, {id(generation.prompt): generation.prompt for generation in generations}.values())),
        tokens,
        max(0.0, first - started),
        (tokens - len(generations)) / (last - first) if last > first else 0.0,
        ",".join(dict.fromkeys(str(generation.finish_reason) for generation in generations)),
    )
