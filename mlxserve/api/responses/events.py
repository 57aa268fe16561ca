"""The events by which a response is told, each one a type of its own. Their fields are OpenAI's."""

from __future__ import annotations

import msgspec

from mlxserve.api.answer import LogprobEntry
from mlxserve.api.responses.answer import Answer
from mlxserve.api.responses.items import Item, Part


class Event(msgspec.Struct, kw_only=True):
    sequence_number: int = 0


class AnswerEvent(Event, tag_field="type"):
    response: Answer


class Created(AnswerEvent, tag="response.created"):
    pass


class Queued(AnswerEvent, tag="response.queued"):
    pass


class InProgress(AnswerEvent, tag="response.in_progress"):
    pass


class Completed(AnswerEvent, tag="response.completed"):
    pass


class Incompleted(AnswerEvent, tag="response.incomplete"):
    pass


class Failed(AnswerEvent, tag="response.failed"):
    pass


class ItemAdded(Event, tag_field="type", tag="response.output_item.added"):
    output_index: int
    item: Item


class ItemDone(Event, tag_field="type", tag="response.output_item.done"):
    output_index: int
    item: Item


class WithinItem(Event, tag_field="type"):
    item_id: str
    output_index: int


class WithinPart(WithinItem, kw_only=True):
    content_index: int = 0


class PartAdded(WithinPart, tag="response.content_part.added"):
    part: Part


class PartDone(WithinPart, tag="response.content_part.done"):
    part: Part


class TextDelta(WithinPart, tag="response.output_text.delta"):
    delta: str
    logprobs: list[LogprobEntry]


class TextDone(WithinPart, tag="response.output_text.done"):
    text: str
    logprobs: list[LogprobEntry]


class ReasoningDelta(WithinPart, tag="response.reasoning_text.delta"):
    delta: str


class ReasoningDone(WithinPart, tag="response.reasoning_text.done"):
    text: str


class ArgumentsDelta(WithinItem, tag="response.function_call_arguments.delta"):
    delta: str


class ArgumentsDone(WithinItem, tag="response.function_call_arguments.done"):
    name: str
    arguments: str


class InputDelta(WithinItem, tag="response.custom_tool_call_input.delta"):
    delta: str


class InputDone(WithinItem, tag="response.custom_tool_call_input.done"):
    input: str


class Error(Event, tag_field="type", tag="error"):
    code: str | None
    message: str
    param: str | None = None


def encoded(event: Event) -> bytes:
    """`event` as a server-sent event."""
    data = msgspec.json.encode(event)
    return b"event: %s\ndata: %s\n\n" % (str(event.__struct_config__.tag).encode(), data)
