"""The body of POST /v1/chat/completions, as types."""

from __future__ import annotations

import secrets
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mlxserve.api.errors import ApiError
from mlxserve.api.messages import AnyMessage
from mlxserve.config import Settings
from mlxserve.engine.messages import Sampling

StopString = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]


class StreamOptions(msgspec.Struct):
    include_usage: bool | None = False


class ResponseFormat(msgspec.Struct):
    type: str


class ChatRequest(msgspec.Struct):
    """What OpenAI's reference names, as far as it can matter here; other fields are ignored."""

    messages: Annotated[list[AnyMessage], Meta(min_length=1)]
    model: str | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    stop: str | Annotated[list[StopString], Meta(max_length=16)] | None = None

    # What would change the answer and cannot be done: refused unless it asks for nothing (see NOTHING).
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: float | None = None
    xtc_probability: float | None = None
    response_format: ResponseFormat | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    modalities: list[str] | None = None
    audio: Any = None
    web_search_options: Any = None
    chat_template: Any = None
    chat_template_kwargs: Any = None
    continue_final_message: bool | None = None
    grammar: Any = None
    json_schema: Any = None
    adapters: Any = None
    draft_model: Any = None

    @property
    def includes_usage(self) -> bool:
        """Whether a streamed answer ends with a usage chunk."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def stop_strings(self) -> list[str]:
        """None of them empty, though a lone empty string is taken for no stop string at all."""
        if isinstance(self.stop, str):
            return [self.stop] if self.stop else []
        return self.stop or []

    def token_limit(self, settings: Settings) -> int:
        """The most tokens that the answer may have; 0: as many as fit."""
        return self.max_completion_tokens or self.max_tokens or settings.max_tokens

    def sampling(self, settings: Settings) -> Sampling:
        """What is asked for, the rest from `settings`; a seed is drawn if none is given."""
        return Sampling(
            seed=secrets.randbits(63) if self.seed is None else self.seed,
            temperature=settings.temperature if self.temperature is None else self.temperature,
            top_p=settings.top_p if self.top_p is None else self.top_p,
            top_k=max(0, settings.top_k if self.top_k is None else self.top_k),
            min_p=settings.min_p if self.min_p is None else self.min_p,
        )


NOTHING: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "repetition_penalty": (0, 1),
    "xtc_probability": (0,),
    "response_format": (ResponseFormat("text"),),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "modalities": ([], ["text"]),
    "audio": (),
    "web_search_options": (),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "grammar": ("",),
    "json_schema": (),
    "adapters": (),
    "draft_model": (),
}
"""For each field that cannot be served, the values, besides null, that ask for nothing."""


def refuse_unsupported(request: ChatRequest) -> None:
    """400, naming the first field that asks for what this server cannot do."""
    for field, nothing in NOTHING.items():
        value = getattr(request, field)
        if value is not None and value not in nothing:
            message = f"'{field}' is not supported by this server with the value given: leave it out."
            raise ApiError(400, message, param=field, code="unsupported_parameter")
