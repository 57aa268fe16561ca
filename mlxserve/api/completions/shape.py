"""Completions in OpenAI's shape, which is that of a stream's chunks too."""

from __future__ import annotations

import secrets
from typing import Literal

import msgspec

from mlxserve.api.answer import (
    FINGERPRINT,
    PromptTokensDetails,
    Timings,
    Usage,
    cached_tokens_of,
    timings_of,
)
from mlxserve.api.completions.likelihoods import Logprobs
from mlxserve.api.completions.writer import ChoiceWriter, Part
from mlxserve.engine.messages import FinishReason
from mlxserve.text.pieces import PromptRead


class Choice(msgspec.Struct):
    index: int
    text: str = ""
    logprobs: Logprobs | None = None
    finish_reason: FinishReason | None = None


class Completion(msgspec.Struct):
    """The whole answer, or a chunk of it. A chunk's `usage` is null where only the last one's is not."""

    id: str
    created: int
    model: str
    choices: list[Choice]
    object: Literal["text_completion"] = "text_completion"
    system_fingerprint: str = FINGERPRINT
    usage: Usage | msgspec.UnsetType | None = msgspec.UNSET
    timings: Timings | msgspec.UnsetType = msgspec.UNSET
    prompt_progress: PromptRead | msgspec.UnsetType = msgspec.UNSET


def new_id() -> str:
    """What an answer is known by."""
    return f"cmpl-{secrets.token_hex(12)}"


def choice_of(index: int, parts: list[Part], finish: FinishReason) -> Choice:
    """A whole choice."""
    logprobs = None
    for part in parts:
        if part.logprobs is not None:
            logprobs = logprobs or Logprobs()
            logprobs.extend(part.logprobs)
    return Choice(index, "".join(part.text for part in parts), logprobs, finish)


def usage_of(writers: list[ChoiceWriter], candidates: int) -> Usage:
    """All tokens that were read and generated; `candidates` of the writers in a row share a prompt."""
    prompt = sum(len(writer.generation.prompt) for writer in writers[::candidates])
    completion = sum(writer.completion_tokens for writer in writers)
    cached = sum(
        cached_tokens_of([writer.generation for writer in writers[first : first + candidates]])
        for first in range(0, len(writers), candidates)
    )
    return Usage(prompt, completion, prompt + completion, PromptTokensDetails(cached))


def timings(writer: ChoiceWriter, started: float) -> Timings:
    """Those of one choice; `started` by `time.perf_counter`."""
    found = timings_of(writer.generation, started)
    return msgspec.structs.replace(found, predicted_n=writer.completion_tokens)
