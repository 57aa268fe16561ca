"""From a conversation's items to the messages that chat templates take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from mlxserve.api.messages import AssistantMessage, ToolCall, ToolMessage, for_template
from mlxserve.api.messages import FunctionCall as CalledFunction
from mlxserve.api.responses.items import (
    Call,
    CustomCall,
    CustomOutput,
    FunctionCall,
    FunctionOutput,
    Item,
    Message,
    Output,
    Reasoning,
    text_of,
)
from mlxserve.api.responses.tools import full_name
from mlxserve.text import conversation


class Turn:
    """What the assistant said between two other items: thoughts, text and calls are one message to a template."""

    def __init__(self) -> None:
        self._thoughts: list[str] = []
        self._texts: list[str] = []
        self._calls: list[ToolCall] = []

    def takes(self, item: Item) -> bool:
        """Whether `item` belongs to this turn. Two messages in a row are two."""
        if isinstance(item, Message):
            return item.role == "assistant" and (not self._texts or bool(self._calls))
        return isinstance(item, Reasoning | FunctionCall | CustomCall)

    def add(self, item: Item) -> None:
        """Take in an item that belongs to it."""
        match item:
            case Reasoning():
                self._thoughts.append(text_of(item.content) or text_of(item.summary))
            case Message():
                self._texts.append(text_of(item.content))
            case FunctionCall() | CustomCall():
                self._calls.append(ToolCall(item.call_id, CalledFunction(name_of(item), _arguments(item))))

    def messages(self) -> Iterator[conversation.Message]:
        """None if there is nothing that a template could show."""
        if self._texts or self._calls:
            message = for_template(AssistantMessage("\n".join(self._texts), self._calls))
            if thoughts := "\n".join(filter(None, self._thoughts)):
                message["reasoning_content"] = thoughts
            yield message


def as_messages(items: Sequence[Item]) -> list[conversation.Message]:
    """The messages that `items` make."""
    messages: list[conversation.Message] = []
    turn = Turn()
    names: dict[str, str] = {}
    for item in items:
        if isinstance(item, FunctionCall | CustomCall):
            names[item.call_id] = name_of(item)
        if not turn.takes(item):
            messages += turn.messages()
            turn = Turn()
        if turn.takes(item):
            turn.add(item)
        elif isinstance(item, FunctionOutput | CustomOutput):
            messages.append(_result(item, names))
        elif isinstance(item, Message):
            messages.append({"role": item.role, "content": text_of(item.content)})
    return [*messages, *turn.messages()]


def orphans(items: Sequence[Item]) -> list[int]:
    """The places in `items` of outputs of calls that are not there before them."""
    called: set[str] = set()
    found = []
    for place, item in enumerate(items):
        if isinstance(item, FunctionCall | CustomCall):
            called.add(item.call_id)
        elif isinstance(item, FunctionOutput | CustomOutput) and item.call_id not in called:
            found.append(place)
    return found


def name_of(call: Call) -> str:
    """By which the model knows what it called."""
    return full_name(call.name, call.namespace)


def _result(item: Output, names: dict[str, str]) -> conversation.Message:
    return for_template(ToolMessage(text_of(item.output), item.call_id, names.get(item.call_id)))


def _arguments(call: Call) -> str:
    if isinstance(call, FunctionCall):
        return call.arguments
    return json.dumps({"input": call.input}, ensure_ascii=False)
