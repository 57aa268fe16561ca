"""A chat's answer in OpenAI's shapes: one object, or what the chunks of a stream begin with."""

from __future__ import annotations

import secrets
import time
from typing import Literal

import msgspec

from mlxserve import __version__
from mlxserve.text.generation import Generation
from mlxserve.text.pieces import Content, Piece, Reasoning, TokenLogprob, TokenText, ToolCall

FINGERPRINT = f"mlxserve-{__version__}"
ChatFinish = Literal["stop", "length", "tool_calls"]


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


class Timings(msgspec.Struct):
    """As llama-server gives them; milliseconds. The prompt's time begins when the request came.

    `cache_n` of the prompt's tokens had been read before; the others are `prompt_n`.
    """

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float


class CalledFunction(msgspec.Struct):
    name: str
    arguments: str


class Call(msgspec.Struct):
    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


class AssistantMessage(msgspec.Struct, omit_defaults=True):
    content: str | None
    role: Literal["assistant"] = msgspec.field(default_factory=lambda: "assistant")
    refusal: None = msgspec.field(default_factory=lambda: None)
    reasoning_content: str | None = None
    tool_calls: list[Call] | None = None


class LogprobToken(msgspec.Struct):
    token: str
    logprob: float
    bytes: tuple[int, ...]


class LogprobEntry(LogprobToken):
    top_logprobs: list[LogprobToken]


class Logprobs(msgspec.Struct):
    content: list[LogprobEntry]
    refusal: None = None


class Choice(msgspec.Struct):
    index: int
    message: AssistantMessage
    finish_reason: ChatFinish
    logprobs: Logprobs | None = None


class ChatCompletion(msgspec.Struct):
    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    timings: Timings
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


def usage_of(generations: list[Generation]) -> Usage:
    """The tokens of an answer's generations so far, which share their prompt."""
    prompt = len(generations[0].prompt)
    completion = sum(generation.completion_tokens for generation in generations)
    reasoning = sum(generation.reasoning_tokens for generation in generations)
    read_before = PromptTokensDetails(cached_tokens_of(generations))
    return Usage(prompt, completion, prompt + completion, read_before, CompletionTokensDetails(reasoning))


def cached_tokens_of(generations: list[Generation]) -> int:
    """Of a prompt that these share, and that counts once, the tokens that none of them had to read."""
    return min(generation.cached_tokens for generation in generations)


def timings_of(generation: Generation, started: float) -> Timings:
    """`started` by `time.perf_counter`."""
    cached, tokens = generation.cached_tokens, generation.completion_tokens
    prompt = len(generation.prompt) - cached
    reading = max(1e-6, generation.first_token_at - started)
    writing = max(1e-6, generation.last_token_at - generation.first_token_at)
    later = max(0, tokens - 1)
    return Timings(
        cache_n=cached,
        prompt_n=prompt,
        prompt_ms=reading * 1e3,
        prompt_per_token_ms=reading * 1e3 / max(1, prompt),
        prompt_per_second=prompt / reading,
        predicted_n=tokens,
        predicted_ms=writing * 1e3,
        predicted_per_token_ms=writing * 1e3 / max(1, later),
        predicted_per_second=later / writing,
    )


def finish_of(generation: Generation) -> ChatFinish:
    """OpenAI's word for how it ended."""
    reason = generation.finish_reason or "stop"
    return "tool_calls" if generation.called_tools and reason == "stop" else reason


def completion(
    identity: Identity, answers: list[list[Piece]], generations: list[Generation], started: float, logprobs: bool
) -> bytes:
    """The whole answer, when the generations are finished."""
    choices = [
        Choice(index, _message(pieces), finish_of(generation), logprobs_of(pieces) if logprobs else None)
        for index, (pieces, generation) in enumerate(zip(answers, generations, strict=True))
    ]
    usage, timings = usage_of(generations), timings_of(generations[0], started)
    answer = ChatCompletion(identity.id, identity.created, identity.model, choices, usage, timings)
    return msgspec.json.encode(answer)


def logprobs_of(pieces: list[Piece]) -> Logprobs:
    """Those of all tokens that became content."""
    return Logprobs([_entry(one) for piece in pieces if isinstance(piece, Content) for one in piece.logprobs])


def call_of(call: ToolCall) -> Call:
    """OpenAI's shape of a call."""
    return Call(call.id, CalledFunction(call.name, call.arguments))


def _message(pieces: list[Piece]) -> AssistantMessage:
    content = "".join(piece.text for piece in pieces if isinstance(piece, Content))
    reasoning = "".join(piece.text for piece in pieces if isinstance(piece, Reasoning))
    calls = [call_of(piece) for piece in pieces if isinstance(piece, ToolCall)]
    return AssistantMessage(
        content=content if content or not calls else None,
        reasoning_content=reasoning or None,
        tool_calls=calls or None,
    )


def _entry(one: TokenLogprob) -> LogprobEntry:
    token = one.token
    return LogprobEntry(token.text, token.logprob, token.bytes, [_token(other) for other in one.top])


def _token(token: TokenText) -> LogprobToken:
    return LogprobToken(token.text, token.logprob, token.bytes)
