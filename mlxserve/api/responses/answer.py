"""A response as OpenAI's clients read it."""

from __future__ import annotations

import secrets
import time
from typing import Literal

import msgspec

from mlxserve.api.answer import usage_of
from mlxserve.api.form import PlainText
from mlxserve.api.responses.items import Item
from mlxserve.api.responses.request import ReasoningOptions, ResponsesRequest, TextOptions
from mlxserve.api.responses.tools import AnyTool, Choice, Toolbox
from mlxserve.text.generation import Generation

State = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]


class InputDetails(msgspec.Struct):
    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(msgspec.Struct):
    reasoning_tokens: int


class Usage(msgspec.Struct):
    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Incomplete(msgspec.Struct):
    reason: Literal["max_output_tokens"] = "max_output_tokens"


FailureCode = Literal["server_error", "cancelled"]


class Failure(msgspec.Struct):
    message: str
    code: FailureCode = "server_error"


class Answer(msgspec.Struct, kw_only=True):
    """`output` and `status` grow as the model writes; the rest is what was asked."""

    id: str = msgspec.field(default_factory=lambda: f"resp_{secrets.token_hex(16)}")
    object: Literal["response"] = "response"
    created_at: int = msgspec.field(default_factory=lambda: int(time.time()))
    status: State = "queued"
    completed_at: int | None = None
    error: Failure | None = None
    incomplete_details: Incomplete | None = None
    model: str
    output: list[Item] = msgspec.field(default_factory=list)
    usage: Usage | None = None
    background: bool
    frequency_penalty: float
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    metadata: dict[str, str]
    parallel_tool_calls: bool
    presence_penalty: float
    previous_response_id: str | None
    prompt_cache_key: str | None
    reasoning: ReasoningOptions
    safety_identifier: str | None
    service_tier: Literal["default"] = "default"
    store: bool
    temperature: float
    text: TextOptions
    tool_choice: Choice
    tools: list[AnyTool]
    top_logprobs: int
    top_p: float
    truncation: Literal["auto", "disabled"]
    user: str | None

    @property
    def ended(self) -> bool:
        """Whether nothing will be added."""
        return self.status not in ("queued", "in_progress")


class ItemPage(msgspec.Struct):
    """The answer to GET /v1/responses/{id}/input_items; the ids are those at its ends."""

    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: Literal["list"] = "list"


class Deleted(msgspec.Struct):
    """The answer to DELETE /v1/responses/{id}."""

    id: str
    object: Literal["response"] = "response"
    deleted: bool = True


class InputTokens(msgspec.Struct):
    """The answer to POST /v1/responses/input_tokens."""

    input_tokens: int
    object: Literal["response.input_tokens"] = "response.input_tokens"


def opened(request: ResponsesRequest, model: str, toolbox: Toolbox, generation: Generation) -> Answer:
    """The answer to `request` before there is a word of it."""
    sampling = generation.sampling
    text = request.text or TextOptions()
    return Answer(
        model=model,
        background=bool(request.background),
        frequency_penalty=sampling.frequency_penalty,
        instructions=request.instructions,
        max_output_tokens=request.max_output_tokens,
        max_tool_calls=request.max_tool_calls,
        metadata=request.metadata or {},
        parallel_tool_calls=toolbox.parallel,
        presence_penalty=sampling.presence_penalty,
        previous_response_id=request.previous_response_id,
        prompt_cache_key=request.prompt_cache_key,
        reasoning=request.reasoning or ReasoningOptions(),
        safety_identifier=request.safety_identifier,
        store=request.stores,
        temperature=sampling.temperature,
        text=TextOptions(text.format or PlainText(), text.verbosity or "medium"),
        tool_choice=toolbox.choice,
        tools=toolbox.given,
        top_logprobs=request.top_logprobs or 0,
        top_p=sampling.top_p,
        truncation=request.truncation or "disabled",
        user=request.user,
    )


def responses_usage(generation: Generation) -> Usage:
    """The tokens of `generation` so far."""
    usage = usage_of([generation])
    return Usage(
        usage.prompt_tokens,
        InputDetails(usage.prompt_tokens_details.cached_tokens),
        usage.completion_tokens,
        OutputDetails(usage.completion_tokens_details.reasoning_tokens),
        usage.total_tokens,
    )
