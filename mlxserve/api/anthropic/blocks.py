"""The messages of a conversation, as Anthropic's clients send them. Fields that are not here are ignored."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class Text(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class Thinking(msgspec.Struct, tag_field="type", tag="thinking"):
    """Reasoning of an earlier answer, given back."""

    thinking: str


class RedactedThinking(msgspec.Struct, tag_field="type", tag="redacted_thinking"):
    """Reasoning that only Anthropic can read."""


class ToolUse(msgspec.Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: dict[str, Any]


class ToolReference(msgspec.Struct, tag_field="type", tag="tool_reference"):
    """What a search for tools found."""

    tool_name: str


class ToolResult(msgspec.Struct, tag_field="type", tag="tool_result"):
    tool_use_id: str
    content: str | list[Text | ToolReference] | None = None
    is_error: bool | None = None


Block = Text | Thinking | RedactedThinking | ToolUse | ToolResult
Role = Literal["user", "assistant", "system"]


class Message(msgspec.Struct):
    role: Role
    content: str | list[Block]

    @property
    def blocks(self) -> list[Block]:
        """The content; a string is short for one block."""
        return [Text(self.content)] if isinstance(self.content, str) else self.content
