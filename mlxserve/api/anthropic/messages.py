"""From Anthropic's messages to those that chat templates take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from mlxserve.api.anthropic.blocks import (
    Block,
    Message,
    RedactedThinking,
    Text,
    Thinking,
    ToolReference,
    ToolResult,
    ToolUse,
)
from mlxserve.api.errors import ApiError
from mlxserve.text import conversation

ALLOWED: dict[str, tuple[type, ...]] = {
    "user": (Text, ToolResult),
    "assistant": (Text, Thinking, RedactedThinking, ToolUse),
    "system": (Text,),
}


def for_template(system: str | list[Text] | None, messages: list[Message]) -> list[conversation.Message]:
    """The whole conversation; neighbours with one role are one turn. Raises ApiError for a block in a wrong place."""
    _check_places(messages)
    prompts = [Text(system)] if isinstance(system, str) else system or []
    chat: list[conversation.Message] = [_plain("system", [prompt]) for prompt in prompts if prompt.text]
    names: dict[str, str] = {}
    for role, turns in groupby(messages, lambda message: message.role):
        blocks = [block for turn in turns for block in turn.blocks]
        names |= {block.id: block.name for block in blocks if isinstance(block, ToolUse)}
        if role == "assistant":
            chat.append(_answer(blocks))
        else:
            chat += _results(blocks, names)
            if not all(isinstance(block, ToolResult) for block in blocks) or not blocks:
                chat.append(_plain(role, blocks))
    return chat


def _check_places(messages: list[Message]) -> None:
    for i, message in enumerate(messages):
        for j, block in enumerate(message.blocks):
            if not isinstance(block, ALLOWED[message.role]):
                kind, place = block.__struct_config__.tag, f"messages[{i}].content[{j}]"
                reason = f"a message with the role '{message.role}' cannot hold a block of the type '{kind}'"
                raise ApiError(400, f"Invalid value for '{place}': {reason}.", param=place, code="invalid_value")


def _plain(role: str, blocks: Sequence[Block]) -> conversation.Message:
    return {"role": role, "content": "\n".join(block.text for block in blocks if isinstance(block, Text))}


def _answer(blocks: list[Block]) -> conversation.Message:
    """An answer as it was given earlier; its reasoning is under the name that most templates know."""
    message = _plain("assistant", blocks)
    thoughts = [block.thinking for block in blocks if isinstance(block, Thinking) and block.thinking]
    calls = [_call(block) for block in blocks if isinstance(block, ToolUse)]
    if thoughts:
        message["reasoning_content"] = "\n".join(thoughts)
    if calls:
        message["tool_calls"] = calls
    return message


def _call(call: ToolUse) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.input}}


def _results(blocks: list[Block], names: dict[str, str]) -> list[conversation.Message]:
    """The results come before the text of their turn: templates want them right after the calls."""
    results = []
    for block in blocks:
        if isinstance(block, ToolResult):
            result = {"role": "tool", "content": _result_text(block), "tool_call_id": block.tool_use_id}
            if block.tool_use_id in names:
                result["name"] = names[block.tool_use_id]
            results.append(result)
    return results


def _result_text(result: ToolResult) -> str:
    parts = [Text(result.content)] if isinstance(result.content, str) else result.content or []
    text = "\n".join(
        f"The tool {part.tool_name} can be called." if isinstance(part, ToolReference) else part.text for part in parts
    )
    return f"Error: {text}" if result.is_error else text
