"""An answer in Anthropic's shape."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from itertools import groupby
from typing import Literal

import msgspec

from mlxserve.text.generation import Generation
from mlxserve.text.pieces import Content, Piece, Reasoning, ToolCall

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use"]


class TextBlock(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class ThinkingBlock(msgspec.Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str = ""
    """Would prove to Anthropic that the thoughts are its model's."""


class ToolUseBlock(msgspec.Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: msgspec.Raw


Block = TextBlock | ThinkingBlock | ToolUseBlock


class OutputTokensDetails(msgspec.Struct):
    thinking_tokens: int = 0


class Usage(msgspec.Struct):
    """`input_tokens` are those that had to be read: the others of the prompt come from the cache."""

    input_tokens: int
    output_tokens: int
    output_tokens_details: OutputTokensDetails
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0


class Message(msgspec.Struct, tag_field="type", tag="message"):
    id: str
    role: Literal["assistant"]
    model: str
    content: list[Block]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: Usage


def message_id() -> str:
    """An id for an answer that nothing else has."""
    return f"msg_{secrets.token_hex(12)}"


def message_of(number: str, model: str, generation: Generation, pieces: Iterable[Piece]) -> Message:
    """The answer with this id, when the generation is finished."""
    reason, stop = stop_reason_of(generation), generation.stop_string or None
    return Message(number, "assistant", model, blocks_of(pieces), reason, stop, usage_of(generation))


def beginning_of(number: str, model: str, generation: Generation) -> Message:
    """The answer before its first token."""
    return Message(number, "assistant", model, [], None, None, usage_of(generation))


def usage_of(generation: Generation) -> Usage:
    """The tokens so far."""
    cached, details = generation.cached_tokens, OutputTokensDetails(generation.reasoning_tokens)
    read = len(generation.prompt) - cached
    return Usage(read, generation.completion_tokens, details, cache_read_input_tokens=cached)


def stop_reason_of(generation: Generation) -> StopReason:
    """Anthropic's word for how it ended."""
    if generation.stop_string:
        return "stop_sequence"
    if generation.finish_reason == "length":
        return "max_tokens"
    return "tool_use" if generation.called_tools else "end_turn"


def blocks_of(pieces: Iterable[Piece]) -> list[Block]:
    """`pieces`, texts of one kind that follow each other as one block."""
    blocks: list[Block] = []
    for kind, group in groupby(pieces, type):
        same = list(group)
        if kind is Content:
            blocks.append(TextBlock("".join(piece.text for piece in same if isinstance(piece, Content))))
        elif kind is Reasoning:
            blocks.append(ThinkingBlock("".join(piece.text for piece in same if isinstance(piece, Reasoning))))
        blocks += [tool_use(piece, piece.arguments) for piece in same if isinstance(piece, ToolCall)]
    return blocks


def tool_use(call: ToolCall, arguments: str) -> ToolUseBlock:
    """A call with these arguments, a JSON object."""
    number = re.sub(r"[^A-Za-z0-9_-]", "_", call.id.removeprefix("call_"))
    return ToolUseBlock(f"toolu_{number}", call.name, msgspec.Raw(arguments.encode()))
