"""A chat's answer in OpenAI's shapes: one object, or the chunks of a stream."""

from __future__ import annotations

import secrets
import time
from typing import Literal

import msgspec

from mlxserve import __version__
from mlxserve.engine.messages import FinishReason
from mlxserve.text.generation import Generation

FINGERPRINT = f"mlxserve-{__version__}"


class PromptTokensDetails(msgspec.Struct):
    cached_tokens: int = 0


class CompletionTokensDetails(msgspec.Struct):
    reasoning_tokens: int = 0


class Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails = msgspec.field(default_factory=PromptTokensDetails)
    completion_tokens_details: CompletionTokensDetails = msgspec.field(default_factory=CompletionTokensDetails)


class AssistantMessage(msgspec.Struct):
    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class Choice(msgspec.Struct):
    message: AssistantMessage
    finish_reason: FinishReason
    index: int = 0
    logprobs: None = None


class ChatCompletion(msgspec.Struct):
    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    object: Literal["chat.completion"] = "chat.completion"
    system_fingerprint: str = FINGERPRINT


class ChunkHead(msgspec.Struct):
    """What all chunks of a stream begin with."""

    id: str
    created: int
    model: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    system_fingerprint: str = FINGERPRINT


class Identity(msgspec.Struct, frozen=True):
    """What an answer is known by, the same in each of its chunks."""

    model: str
    id: str = msgspec.field(default_factory=lambda: f"chatcmpl-{secrets.token_hex(12)}")
    created: int = msgspec.field(default_factory=lambda: int(time.time()))


def usage_of(generation: Generation) -> Usage:
    """The tokens of a generation so far."""
    prompt, completion = len(generation.prompt), generation.completion_tokens
    return Usage(prompt, completion, prompt + completion)


def completion(identity: Identity, text: str, generation: Generation) -> bytes:
    """The whole answer, when `generation` is finished."""
    choice = Choice(AssistantMessage(text), generation.finish_reason or "stop")
    usage = usage_of(generation)
    return msgspec.json.encode(ChatCompletion(identity.id, identity.created, identity.model, [choice], usage))
