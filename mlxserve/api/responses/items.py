"""What a conversation is made of in the Responses API: the same kinds of item come in and go out."""

from __future__ import annotations

import secrets
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from mlxserve.api.answer import LogprobEntry

Status = Literal["in_progress", "completed", "incomplete"]
Role = Literal["user", "assistant", "system", "developer"]


class InputText(msgspec.Struct, tag_field="type", tag="input_text"):
    text: str


class OutputText(msgspec.Struct, tag_field="type", tag="output_text"):
    """`annotations` and `logprobs` are not read where a client sends them back."""

    text: str
    annotations: Any = msgspec.field(default_factory=list)
    logprobs: Any = msgspec.field(default_factory=list)


class PlainText(msgspec.Struct, tag_field="type", tag="text"):
    """As chat completions call it, and some clients here too."""

    text: str


class Refusal(msgspec.Struct, tag_field="type", tag="refusal"):
    refusal: str


class ReasoningText(msgspec.Struct, tag_field="type", tag="reasoning_text"):
    text: str


class SummaryText(msgspec.Struct, tag_field="type", tag="summary_text"):
    text: str


MessagePart = InputText | OutputText | PlainText | Refusal
OutputPart = InputText | OutputText | PlainText
Part = MessagePart | ReasoningText | SummaryText


class Message(msgspec.Struct, tag_field="type", tag="message", kw_only=True):
    id: str | None = None
    role: Role
    status: Status | None = None
    content: str | list[MessagePart]


class Reasoning(msgspec.Struct, tag_field="type", tag="reasoning", kw_only=True):
    """What is encrypted in it was not written here and cannot be read."""

    id: str | None = None
    status: Status | None = None
    summary: list[SummaryText] | None = msgspec.field(default_factory=list)
    content: list[ReasoningText | PlainText] | None = None


class FunctionCall(msgspec.Struct, tag_field="type", tag="function_call", kw_only=True):
    id: str | None = None
    call_id: str
    name: str
    namespace: str | UnsetType | None = UNSET
    arguments: str
    status: Status | None = None


class FunctionOutput(msgspec.Struct, tag_field="type", tag="function_call_output", kw_only=True):
    id: str | None = None
    call_id: str
    output: str | list[OutputPart]
    status: Status | None = None


class CustomCall(msgspec.Struct, tag_field="type", tag="custom_tool_call", kw_only=True):
    """A call of a tool that takes free text instead of JSON."""

    id: str | None = None
    call_id: str
    name: str
    namespace: str | UnsetType | None = UNSET
    input: str
    status: Status | None = None


class CustomOutput(msgspec.Struct, tag_field="type", tag="custom_tool_call_output", kw_only=True):
    id: str | None = None
    call_id: str
    output: str | list[OutputPart]
    status: Status | None = None


class ItemReference(msgspec.Struct, tag_field="type", tag="item_reference"):
    id: str


class WebSearchCall(msgspec.Struct, tag_field="type", tag="web_search_call"):
    """Found in conversations that began with another server; says nothing that a model could read."""


Call = FunctionCall | CustomCall
Output = FunctionOutput | CustomOutput
Item = Message | Reasoning | FunctionCall | FunctionOutput | CustomCall | CustomOutput
InputItem = Item | ItemReference | WebSearchCall

PREFIXES: dict[type[Any], str] = {
    Message: "msg",
    Reasoning: "rs",
    FunctionCall: "fc",
    FunctionOutput: "fco",
    CustomCall: "ctc",
    CustomOutput: "ctco",
}


def item_id(kind: type[Item]) -> str:
    """An id for an item that nothing else has."""
    return f"{PREFIXES[kind]}_{secrets.token_hex(16)}"


def text_of(parts: str | list[Any] | None) -> str:
    """The text of an item's content, parts joined by newlines."""
    if isinstance(parts, str):
        return parts
    return "\n".join(part.refusal if isinstance(part, Refusal) else part.text for part in parts or [])


def received(item: Item) -> Item:
    """`item` as it is kept and given back: with an id and a status, and its content in the parts that OpenAI has."""
    known: dict[str, Any] = {"id": item.id or item_id(type(item)), "status": item.status or "completed"}
    if isinstance(item, Message):
        known["content"] = _parts(item)
    elif isinstance(item, FunctionOutput | CustomOutput) and not isinstance(item.output, str):
        known["output"] = [InputText(part.text) for part in item.output]
    elif isinstance(item, Reasoning):
        known["summary"] = item.summary or []
    return msgspec.structs.replace(item, **known)


def output_text(text: str, logprobs: list[LogprobEntry] | None = None) -> OutputText:
    """A part of an answer."""
    return OutputText(text, [], logprobs or [])


def _parts(message: Message) -> list[MessagePart]:
    kind = output_text if message.role == "assistant" else InputText
    if isinstance(message.content, str):
        return [kind(message.content)]
    return [part if isinstance(part, Refusal) else kind(part.text) for part in message.content]
