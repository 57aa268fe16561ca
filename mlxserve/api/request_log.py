"""One line in the log for each request that was answered, or left; never a word of its text."""

from __future__ import annotations

import logging

from mlxserve.text.generation import Generation

log = logging.getLogger("mlxserve.api")

CLIENT_GONE = 499
"""The status of requests whose client left, as nginx has it."""


def log_answer(name: str, status: int, generation: Generation, started: float) -> None:
    """`started` by `time.perf_counter`."""
    first, last, tokens = generation.first_token_at, generation.last_token_at, generation.completion_tokens
    log.info(
        "%s status=%d prompt_tokens=%d completion_tokens=%d ttft=%.3fs tokens_per_second=%.1f finish=%s",
        name,
        status,
        len(generation.prompt),
        tokens,
        max(0.0, first - started),
        (tokens - 1) / (last - first) if last > first else 0.0,
        generation.finish_reason,
    )
