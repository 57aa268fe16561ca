"""The tools of a request: those that can be offered to a model, by which name, and what its calls become."""

from __future__ import annotations

import json
import logging
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta

from mlxserve.api.responses.items import Call, CustomCall, FunctionCall, item_id
from mlxserve.api.responses.refusal import check_depth, typed, wrong
from mlxserve.api.tools import (
    AllowedTools,
    Function,
    FunctionName,
    Mode,
    Name,
    NamedTool,
    SomeTools,
    Tool,
    ToolChoice,
    chosen,
    for_template,
)
from mlxserve.text import pieces
from mlxserve.text.format import Tools

log = logging.getLogger("mlxserve.api")

FREE_TEXT = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
"""How a model is told of a tool that takes text: it knows functions only."""


class FunctionTool(msgspec.Struct, tag_field="type", tag="function"):
    name: Name
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class TextFormat(msgspec.Struct, tag_field="type", tag="text"):
    pass


class GrammarFormat(msgspec.Struct, tag_field="type", tag="grammar"):
    syntax: str
    definition: str


class CustomTool(msgspec.Struct, tag_field="type", tag="custom", omit_defaults=True):
    name: Name
    description: str | None = None
    format: TextFormat | GrammarFormat | None = None


class Namespace(msgspec.Struct, tag_field="type", tag="namespace", omit_defaults=True):
    """Tools of one origin, as Codex sends those of an MCP server."""

    name: Name
    description: str | None = None
    tools: list[dict[str, Any]] = []


class NamedFunction(msgspec.Struct, tag_field="type", tag="function"):
    name: str


class NamedCustom(msgspec.Struct, tag_field="type", tag="custom"):
    name: str


class AllowedTool(msgspec.Struct):
    type: str
    name: str | None = None


class Allowed(msgspec.Struct, tag_field="type", tag="allowed_tools"):
    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Meta(min_length=1)]


Choice = Mode | NamedFunction | NamedCustom | Allowed
AnyTool = FunctionTool | CustomTool | Namespace


class Offer(msgspec.Struct, frozen=True):
    """A tool as the model knows it, and as the client does."""

    tool: Tool
    own: FunctionTool | CustomTool
    namespace: str | None = None

    def call(self, piece: pieces.ToolCall) -> Call:
        """The item for a call that the model made."""
        namespace = UNSET if self.namespace is None else self.namespace
        if isinstance(self.own, FunctionTool):
            return FunctionCall(
                id=item_id(FunctionCall),
                call_id=piece.id,
                name=self.own.name,
                namespace=namespace,
                arguments=piece.arguments,
                status="completed",
            )
        return CustomCall(
            id=item_id(CustomCall),
            call_id=piece.id,
            name=self.own.name,
            namespace=namespace,
            input=_free_text(piece.arguments),
            status="completed",
        )


class Toolbox:
    """A request's tools. Raises ApiError where they are not what they must be."""

    def __init__(self, tools: list[dict[str, Any]], choice: Choice | None, parallel: bool) -> None:
        self.given: list[AnyTool] = []
        """Those that the answer names: the ones that can be offered."""
        self.parallel = parallel
        self.choice: Choice = "auto" if choice is None else choice
        self._offers: dict[str, Offer] = {}
        skipped = [self._take(number, tool) for number, tool in enumerate(tools)]
        types = list(filter(None, skipped))
        if types and not self._offers and choice != "none":
            message = f"Tools of type {types[0]!r} cannot be served here: only 'function' and 'custom' tools can."
            raise wrong(f"tools[{skipped.index(types[0])}].type", message, "unsupported_tool")
        if types:
            log.info("tools that cannot be offered are left out: %s", ", ".join(sorted(set(types))))
        self._chosen, self.mode = chosen([offer.tool for offer in self._offers.values()], self._plain_choice())

    @property
    def for_template(self) -> Tools:
        """The tools that may be called, as chat templates take them."""
        return [for_template(tool) for tool in self._chosen]

    def call(self, piece: pieces.ToolCall) -> Call:
        """The item for a call that the model made, of a tool that there is or that it made up."""
        offer = self._offers.get(piece.name) or _offer(FunctionTool(piece.name), None)
        return offer.call(piece)

    def _take(self, number: int, tool: dict[str, Any]) -> str:
        """Add a tool; the type of one that cannot be offered."""
        at = f"tools[{number}]"
        kind = tool.get("type", "")
        if isinstance(kind, str) and kind and kind not in ("function", "custom", "namespace"):
            return kind[:64]
        check_depth(tool, at)
        known: AnyTool = typed(tool, AnyTool, at)
        self.given.append(known)
        if not isinstance(known, Namespace):
            self._add(known, None)
            return ""
        for index, inner in enumerate(known.tools):
            self._add(typed(inner, FunctionTool | CustomTool, f"{at}.tools[{index}]"), known.name)
        return ""

    def _add(self, tool: FunctionTool | CustomTool, namespace: str | None) -> None:
        self._offers.setdefault(full_name(tool.name, namespace), _offer(tool, namespace))

    def _plain_choice(self) -> ToolChoice:
        match self.choice:
            case NamedFunction(name=name) | NamedCustom(name=name):
                return self._named(name)
            case Allowed():
                names = [one.name for one in self.choice.tools if one.type in ("function", "custom") and one.name]
                if not names and self.choice.mode == "required":
                    raise wrong("tool_choice", "'tool_choice' allows no tool that can be offered, but requires one.")
                return SomeTools(AllowedTools(self.choice.mode, [self._named(name) for name in names]))
        return self.choice

    def _named(self, name: str) -> NamedTool:
        """By the client's name for it, or the whole one."""
        if name in self._offers:
            return NamedTool(FunctionName(name))
        own = [full for full, offer in self._offers.items() if offer.own.name == name]
        return NamedTool(FunctionName(own[0] if own else name))


def full_name(name: str, namespace: object) -> str:
    """By which the model knows a tool."""
    if not isinstance(namespace, str):
        return name
    return namespace + name if namespace.endswith("_") else f"{namespace}__{name}"


def _offer(tool: FunctionTool | CustomTool, namespace: str | None) -> Offer:
    if isinstance(tool, FunctionTool):
        parameters, description = tool.parameters, tool.description
    else:
        parameters, description = FREE_TEXT, _described(tool)
    function = Function(full_name(tool.name, namespace), description, parameters)
    return Offer(Tool(function), tool, namespace)


def _described(tool: CustomTool) -> str:
    described = tool.description or ""
    if isinstance(tool.format, GrammarFormat):
        described += f"\n\nThe input must follow this {tool.format.syntax} grammar:\n{tool.format.definition}"
    return described.strip()


def _free_text(arguments: str) -> str:
    """What a call says to a tool that takes text; all of it where the model did not keep to the form."""
    text = json.loads(arguments).get("input")
    return text if isinstance(text, str) else arguments
