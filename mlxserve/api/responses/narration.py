"""Telling a response: what the model writes becomes the answer's items, and the events that say so."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import msgspec

from mlxserve.api.answer import LogprobEntry, logprobs_of
from mlxserve.api.responses import events
from mlxserve.api.responses.answer import Answer, Failure, FailureCode, Incomplete, responses_usage
from mlxserve.api.responses.events import Event
from mlxserve.api.responses.items import (
    Call,
    FunctionCall,
    Message,
    Reasoning,
    ReasoningText,
    Status,
    item_id,
    output_text,
)
from mlxserve.api.responses.tools import Toolbox
from mlxserve.text.generation import Generation
from mlxserve.text.pieces import Content, Piece, ToolCall
from mlxserve.text.pieces import Reasoning as Thought


class Narration:
    """Tells one answer. Each event must be taken, and encoded, before the next is asked for: the answer grows on."""

    def __init__(self, answer: Answer, toolbox: Toolbox, generation: Generation) -> None:
        self.answer = answer
        self.generation = generation
        self._toolbox = toolbox
        self._open: Message | Reasoning | None = None
        self._written: list[str] = []
        self._logprobs: list[LogprobEntry] = []

    def begin(self) -> Iterator[Event]:
        """The events before there is a word."""
        answer = self.answer
        answer.status = "queued" if answer.background else "in_progress"
        yield events.Created(response=answer)
        if answer.background:
            yield events.Queued(response=answer)
        answer.status = "in_progress"
        yield events.InProgress(response=answer)

    def piece(self, piece: Piece) -> Iterator[Event]:
        """The events of a piece."""
        if isinstance(piece, ToolCall):
            yield from self._close("completed")
            yield from self._call(self._toolbox.call(piece))
            return
        if not isinstance(self._open, Message if isinstance(piece, Content) else Reasoning):
            yield from self._close("completed")
            yield from self._begin_item(piece)
        self._written.append(piece.text)
        if isinstance(piece, Thought):
            yield events.ReasoningDelta(**self._place, delta=piece.text)
            return
        logprobs = logprobs_of([piece]).content
        self._logprobs += logprobs
        yield events.TextDelta(**self._place, delta=piece.text, logprobs=logprobs)

    def end(self) -> Iterator[Event]:
        """The events at the end of the generation."""
        answer = self.answer
        cut_off = self.generation.finish_reason == "length"
        if not cut_off and not any(isinstance(item, Message | Call) for item in answer.output):
            yield from self._close("completed")
            yield from self._begin_item(Content(""))
        yield from self._close("incomplete" if cut_off else "completed")
        answer.usage = responses_usage(self.generation)
        if cut_off:
            answer.status, answer.incomplete_details = "incomplete", Incomplete()
            yield events.Incompleted(response=answer)
            return
        answer.status, answer.completed_at = "completed", int(time.time())
        yield events.Completed(response=answer)

    def fail(self, message: str, code: FailureCode = "server_error") -> Iterator[Event]:
        """The events after which nothing can follow, for the engine could not go on or was not to."""
        yield from self._close("incomplete")
        self.answer.status, self.answer.error = "failed", Failure(message, code)
        self.answer.usage = responses_usage(self.generation)
        yield events.Failed(response=self.answer)

    def cancel(self) -> Iterator[Event]:
        """The events of an answer that is wanted no longer. OpenAI has none of its own for it."""
        yield from self._close("incomplete")
        self.answer.status = "cancelled"
        self.answer.usage = responses_usage(self.generation)
        yield events.Incompleted(response=self.answer)

    @property
    def _place(self) -> dict[str, Any]:
        return {"item_id": self.answer.output[-1].id, "output_index": len(self.answer.output) - 1}

    def _begin_item(self, piece: Content | Thought) -> Iterator[Event]:
        item: Message | Reasoning
        if isinstance(piece, Content):
            item = Message(id=item_id(Message), role="assistant", status="in_progress", content=[])
        else:
            item = Reasoning(id=item_id(Reasoning), status="in_progress", content=[])
        self._open, self._written, self._logprobs = item, [], []
        self.answer.output.append(item)
        yield events.ItemAdded(output_index=len(self.answer.output) - 1, item=item)
        yield events.PartAdded(**self._place, part=output_text("") if isinstance(item, Message) else ReasoningText(""))

    def _close(self, status: Status) -> Iterator[Event]:
        """The end of the item that is open, if one is."""
        item, self._open = self._open, None
        if item is None:
            return
        text = "".join(self._written)
        if isinstance(item, Message):
            said = output_text(text, self._logprobs)
            yield events.TextDone(**self._place, text=text, logprobs=self._logprobs)
            yield events.PartDone(**self._place, part=said)
            item.content = [said]
        else:
            thought = ReasoningText(text)
            yield events.ReasoningDone(**self._place, text=text)
            yield events.PartDone(**self._place, part=thought)
            item.content = [thought]
        item.status = status
        yield events.ItemDone(output_index=len(self.answer.output) - 1, item=item)

    def _call(self, call: Call) -> Iterator[Event]:
        """A call comes whole: clients want it in steps all the same."""
        self.answer.output.append(call)
        index = len(self.answer.output) - 1
        if isinstance(call, FunctionCall):
            begun: Call = msgspec.structs.replace(call, arguments="", status="in_progress")
            yield events.ItemAdded(output_index=index, item=begun)
            yield events.ArgumentsDelta(**self._place, delta=call.arguments)
            yield events.ArgumentsDone(**self._place, name=call.name, arguments=call.arguments)
        else:
            begun = msgspec.structs.replace(call, input="", status="in_progress")
            yield events.ItemAdded(output_index=index, item=begun)
            yield events.InputDelta(**self._place, delta=call.input)
            yield events.InputDone(**self._place, input=call.input)
        yield events.ItemDone(output_index=index, item=call)
