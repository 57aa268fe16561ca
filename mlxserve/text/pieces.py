"""What an answer is made of, in the order in which it is written."""

from __future__ import annotations

import msgspec


class TokenText(msgspec.Struct, frozen=True):
    """A token and its log-probability. Its bytes are a part of a character now and then; its text is not exact then."""

    text: str
    bytes: tuple[int, ...]
    logprob: float


class TokenLogprob(msgspec.Struct, frozen=True):
    """A token of the answer, and the likeliest in its place."""

    token: TokenText
    top: list[TokenText] = []


class Content(msgspec.Struct, frozen=True):
    """Text of the answer; never empty."""

    text: str
    logprobs: list[TokenLogprob] = []
    """Of the tokens that became text, where they are asked for."""


class Reasoning(msgspec.Struct, frozen=True):
    """Text that the model wrote for itself; never empty."""

    text: str


class ToolCall(msgspec.Struct, frozen=True):
    """A whole call. `arguments` is a JSON object."""

    id: str
    name: str
    arguments: str


Piece = Content | Reasoning | ToolCall


class PromptRead(msgspec.Struct, frozen=True):
    """How far the prompt is read, told before its answer: `processed` of `total` tokens, as llama-server names them.

    `cache` of those processed had been read before; `time_ms` since reading began.
    """

    total: int
    cache: int
    processed: int
    time_ms: int
