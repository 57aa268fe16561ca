"""How a model marks its reasoning and its tool calls, as mlx-lm knows it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from mlxserve.text.pieces import ToolCall

Tools = list[dict[str, Any]]
"""As OpenAI's API has them: `{"type": "function", "function": {"name": …, "parameters": …}}`."""


@dataclass(frozen=True)
class OutputFormat:
    """The marks in a model's output. The fields are those that mlx-lm's text state machine is made from."""

    think_start: str | None
    think_end: str | None
    tool_call_start: str | None
    tool_call_end: str | None
    parse: Callable[[str, Tools | None], Any] | None
    structural_markers: tuple[str, ...] = ()
    response_transitions: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    initial_state: str | None = None

    @classmethod
    def of(cls, wrapper: Any) -> OutputFormat:
        """The format of mlx-lm's tokenizer wrapper; calls in Hermes' format where the model has none of its own."""
        found = cls(
            wrapper.think_start,
            wrapper.think_end,
            wrapper.tool_call_start,
            wrapper.tool_call_end,
            wrapper.tool_parser,
            tuple(wrapper.structural_markers),
            dict(wrapper.response_transitions),
            wrapper.response_initial_state,
        )
        if found.parse is not None:
            return found
        from mlx_lm.tool_parsers import json_tools as hermes

        return replace(
            found,
            tool_call_start=hermes.tool_call_start,
            tool_call_end=hermes.tool_call_end,
            parse=hermes.parse_tool_call,
        )

    @property
    def has_thinking(self) -> bool:
        """Whether the model can reason before it answers."""
        return self.think_start is not None

    @property
    def has_tool_calling(self) -> bool:
        """Whether tool calls are looked for."""
        return self.tool_call_start is not None

    def without_tools(self) -> OutputFormat:
        """The same, with tool calls left in the text."""
        return replace(self, tool_call_start=None)

    def machine(self) -> Any:
        """mlx-lm's state machine that splits text by its marks."""
        from mlx_lm.generate import make_text_state_machine

        return make_text_state_machine(self)

    def calls(self, text: str, tools: Tools) -> list[ToolCall]:
        """The calls in `text`, which stood between the marks. Raises ValueError if they cannot be read."""
        try:
            if self.parse is None:
                raise ValueError("no tools were offered")
            parsed = self.parse(text, tools)
            return [call_of(one) for one in (parsed if isinstance(parsed, list) else [parsed])]
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, SyntaxError, RecursionError) as error:
            raise ValueError(f"no tool call: {error}") from error


def call_id() -> str:
    """An id for a tool call that nothing else has."""
    return f"call_{secrets.token_hex(12)}"


def call_of(parsed: Any) -> ToolCall:
    """The call in what a parser made of text. Raises ValueError where it is none, or holds what JSON cannot say."""
    name, arguments = parsed["name"], parsed.get("arguments", {})
    if isinstance(arguments, str):
        arguments = json.loads(arguments)
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        raise ValueError("a name and arguments are needed")
    given = parsed.get("id")
    number = given if isinstance(given, str) and given else call_id()
    call = ToolCall(number, name, json.dumps(arguments, ensure_ascii=False, allow_nan=False))
    "".join((call.id, call.name, call.arguments)).encode()  # halves of characters cannot be sent
    return call
