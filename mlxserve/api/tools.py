"""Tools in requests of OpenAI's chat API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlxserve.api.errors import ApiError

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Mode = Literal["none", "auto", "required"]


class Function(msgspec.Struct, omit_defaults=True):
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, tag_field="type", tag="function"):
    function: Function


class FunctionName(msgspec.Struct):
    name: str


class NamedTool(msgspec.Struct, tag_field="type", tag="function"):
    function: FunctionName


class AllowedTools(msgspec.Struct):
    mode: Literal["auto", "required"]
    tools: Annotated[list[NamedTool], Meta(min_length=1)]


class SomeTools(msgspec.Struct, tag_field="type", tag="allowed_tools"):
    allowed_tools: AllowedTools


ToolChoice = Mode | NamedTool | SomeTools


def chosen(tools: list[Tool], choice: ToolChoice | None) -> tuple[list[Tool], Mode]:
    """The tools that may be called, and whether one must be. Raises ApiError where the two do not fit."""
    match choice:
        case None:
            return tools, "auto"
        case NamedTool(function=FunctionName(name=name)):
            return _named(tools, [name]), "required"
        case SomeTools(allowed_tools=allowed):
            return _named(tools, [one.function.name for one in allowed.tools]), allowed.mode
    if choice == "required" and not tools:
        raise _wrong("is 'required', but no 'tools' are given")
    return tools, choice


def for_template(tool: Tool) -> dict[str, Any]:
    """`tool` as chat templates and parsers take it."""
    plain: dict[str, Any] = msgspec.to_builtins(tool)
    plain["function"].pop("strict", None)
    plain["function"].setdefault("description", "")
    plain["function"].setdefault("parameters", {"type": "object", "properties": {}})
    return plain


def _named(tools: list[Tool], names: list[str]) -> list[Tool]:
    known = {tool.function.name: tool for tool in tools}
    for name in names:
        if name not in known:
            raise _wrong(f"names {name!r}, which is not among the 'tools'")
    return [known[name] for name in dict.fromkeys(names)]


def _wrong(reason: str) -> ApiError:
    return ApiError(400, f"'tool_choice' {reason}.", param="tool_choice", code="invalid_value")
