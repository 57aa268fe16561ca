"""Tools in requests of Anthropic's API.

Tools that a client describes itself are offered to the model. Those that have a type instead of a schema are not: they
run on Anthropic's servers (web search, code execution), or Anthropic's models were trained to know them (bash, text
editor, computer). Beside others they are left out; a request for nothing else is refused, for its answer would be made
up.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mlxserve.api import tools as chat
from mlxserve.api.errors import ApiError
from mlxserve.text.format import Tools


class Tool(msgspec.Struct):
    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None

    @property
    def described(self) -> bool:
        """Whether the client says what it is, so that any model can be told."""
        return self.type in (None, "custom") or self.input_schema is not None


class Auto(msgspec.Struct, tag_field="type", tag="auto"):
    disable_parallel_tool_use: bool | None = None


class AnyTool(msgspec.Struct, tag_field="type", tag="any"):
    disable_parallel_tool_use: bool | None = None


class Named(msgspec.Struct, tag_field="type", tag="tool"):
    name: str
    disable_parallel_tool_use: bool | None = None


class NoTool(msgspec.Struct, tag_field="type", tag="none"):
    disable_parallel_tool_use: bool | None = None


ToolChoice = Auto | AnyTool | Named | NoTool


def offered(tools: list[Tool], choice: ToolChoice | None) -> tuple[Tools, chat.Mode]:
    """The tools that the model is told of, and whether one must be called. Raises ApiError where that cannot be."""
    described = [_as_chats(i, tool) for i, tool in enumerate(tools) if tool.described]
    if isinstance(choice, NoTool):
        return [], "none"
    foreign = [tool for tool in tools if not tool.described]
    if foreign and not described:
        raise _not_here(foreign[0])
    if isinstance(choice, Named):
        for tool in foreign:
            if tool.name == choice.name:
                raise _not_here(tool)
    if isinstance(choice, AnyTool) and not tools:
        message = "'tool_choice' is 'any', but no 'tools' are given."
        raise ApiError(400, message, param="tool_choice", code="invalid_value")
    chosen, mode = chat.chosen(described, _as_chats_choice(choice))
    return [chat.for_template(tool) for tool in chosen], mode


def _as_chats(index: int, tool: Tool) -> chat.Tool:
    for field in ("name", "input_schema"):
        if not getattr(tool, field) and getattr(tool, field) != {}:
            place = f"tools[{index}].{field}"
            raise ApiError(400, f"'{place}' is required.", param=place, code="missing_required_parameter")
    return chat.Tool(chat.Function(tool.name, tool.description, tool.input_schema or None))


def _as_chats_choice(choice: ToolChoice | None) -> chat.ToolChoice | None:
    match choice:
        case Named(name=name):
            return chat.NamedTool(chat.FunctionName(name))
        case AnyTool():
            return "required"
    return None


def _not_here(tool: Tool) -> ApiError:
    message = f"This server has no tool '{tool.type}', which is Anthropic's own: give tools with an 'input_schema'."
    return ApiError(400, message, param="tools", code="unsupported_tool")
