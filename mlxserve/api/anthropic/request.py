"""The bodies of POST /v1/messages and /v1/messages/count_tokens, as types. Fields that are not here are ignored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from mlxserve.api.anthropic.blocks import Message, Text
from mlxserve.api.anthropic.messages import for_template
from mlxserve.api.anthropic.tools import Tool, ToolChoice, offered
from mlxserve.api.errors import ApiError
from mlxserve.api.fields import Count, StopString, TopK, TopP
from mlxserve.api.question import Draw, Question
from mlxserve.text.grammar import json_grammar

Temperature = Annotated[float, Meta(ge=0, le=1)]
StopSequences = Annotated[list[StopString], Meta(max_length=64)]

EFFORTS = {"xhigh": "high", "max": "high"}
"""Efforts that chat templates do not know, and the nearest that they do."""


class ThinkingConfig(msgspec.Struct):
    """Whether to reason; how much cannot be said to a chat template."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]


class JsonFormat(msgspec.Struct, tag_field="type", tag="json_schema"):
    schema: dict[str, Any]


class OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: JsonFormat | None = None


class CountRequest(msgspec.Struct, kw_only=True):
    """What makes the prompt."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    system: str | list[Text] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: ThinkingConfig | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = None
    mcp_servers: list[Any] | None = None

    @property
    def one_call(self) -> bool:
        """Whether the answer ends with its first tool call."""
        return self.tool_choice is not None and bool(self.tool_choice.disable_parallel_tool_use)

    def question(self) -> Question:
        """What is asked. Raises ApiError where fields contradict each other, or ask for what is not there."""
        if self.mcp_servers:
            message = "'mcp_servers' is not supported by this server: it connects to no other."
            raise ApiError(400, message, param="mcp_servers", code="unsupported_parameter")
        messages = for_template(self.system, self.messages)
        tools, choice = offered(self.tools or [], self.tool_choice)
        form, field = self._form()
        return Question(
            messages=messages,
            tools=tools,
            tool_choice=choice,
            parallel_tool_calls=not self.one_call,
            grammar=None if form is None else lambda: json_grammar(form.schema),
            grammar_field=field,
            variables=self._variables(),
            continued=self._begun(messages[-1]),
        )

    def _form(self) -> tuple[JsonFormat | None, str]:
        if self.output_config and self.output_config.format:
            return self.output_config.format, "output_config.format"
        return self.output_format, "output_format"

    def _variables(self) -> dict[str, Any]:
        """Without `thinking` there is none, as Anthropic's clients expect: many read the first block as text."""
        variables: dict[str, Any] = {"enable_thinking": self.thinking is not None and self.thinking.type != "disabled"}
        if self.output_config and (effort := self.output_config.effort):
            variables["reasoning_effort"] = EFFORTS.get(effort, effort)
        return variables

    def _begun(self, last: dict[str, Any]) -> bool:
        """Whether the last message is the beginning of the answer."""
        return last["role"] == "assistant" and bool(last["content"]) and "tool_calls" not in last


class MessageRequest(CountRequest, kw_only=True):
    max_tokens: Count
    stream: bool | None = None
    stop_sequences: StopSequences | None = None
    temperature: Temperature | None = None
    top_p: TopP | None = None
    top_k: TopK | None = None

    def question(self) -> Question:
        """As of CountRequest, and how it is to be answered."""
        return msgspec.structs.replace(
            super().question(),
            draw=Draw(temperature=self.temperature, top_p=self.top_p, top_k=self.top_k),
            max_tokens=self.max_tokens,
            stop=self.stop_sequences or [],
        )
