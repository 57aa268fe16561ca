"""The messages of a chat, as clients send them and as chat templates take them."""

from __future__ import annotations

from typing import Any

import msgspec

from mlxserve.text.conversation import Message


class TextPart(msgspec.Struct, tag_field="type", tag="text"):
    """The one kind of content part that a language model reads."""

    text: str


Text = str | list[TextPart]


class SystemMessage(msgspec.Struct, tag_field="role", tag="system"):
    content: Text


class DeveloperMessage(msgspec.Struct, tag_field="role", tag="developer"):
    content: Text


class UserMessage(msgspec.Struct, tag_field="role", tag="user"):
    content: Text


class FunctionCall(msgspec.Struct):
    name: str
    arguments: str
    """A JSON object, as the model wrote it: not always a valid one."""


class ToolCall(msgspec.Struct):
    id: str
    function: FunctionCall


class AssistantMessage(msgspec.Struct, tag_field="role", tag="assistant"):
    content: Text | None = None
    tool_calls: list[ToolCall] | None = None


class ToolMessage(msgspec.Struct, tag_field="role", tag="tool"):
    content: Text
    tool_call_id: str
    name: str | None = None


AnyMessage = SystemMessage | DeveloperMessage | UserMessage | AssistantMessage | ToolMessage


def for_template(message: AnyMessage) -> Message:
    """`message` as a dictionary, its text parts joined by newlines."""
    plain: Message = {"role": message.__struct_config__.tag, "content": _joined(message.content)}
    if isinstance(message, ToolMessage):
        plain["tool_call_id"] = message.tool_call_id
        if message.name is not None:
            plain["name"] = message.name
    if isinstance(message, AssistantMessage) and message.tool_calls:
        plain["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    return plain


def _joined(content: Text | None) -> str:
    if isinstance(content, list):
        return "\n".join(part.text for part in content)
    return content or ""


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": _arguments(call.function.arguments)},
    }


def _arguments(arguments: str) -> Any:
    """Templates iterate over an object; what is none stays text."""
    try:
        return msgspec.json.decode(arguments, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return arguments
