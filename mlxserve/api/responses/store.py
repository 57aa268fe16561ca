"""Responses that can be asked for later: in memory, so many and no more."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import msgspec

from mlxserve.api.errors import ApiError
from mlxserve.api.responses.answer import Answer
from mlxserve.api.responses.background import Background
from mlxserve.api.responses.items import InputItem, Item, ItemReference, Message, WebSearchCall, received
from mlxserve.api.responses.refusal import wrong

MOST_RESPONSES = 1000
MOST_BYTES = 256 * 2**20


@dataclass(eq=False)
class Stored:
    """A response and the conversation that it answers."""

    answer: Answer
    inherited: list[Item]
    """The conversation before the request's own input."""
    input: list[Item]
    background: Background | None = None
    """What makes it, or made it, where no client waits for it."""
    size: int = 0
    """Bytes, as JSON; 0 while the answer grows."""

    @property
    def conversation(self) -> list[Item]:
        """All that the model has read of it, and its answer."""
        return [*self.inherited, *self.input, *self.answer.output]


class Store:
    """Forgets the oldest responses first; those that are being made stay."""

    def __init__(self, most_responses: int = MOST_RESPONSES, most_bytes: int = MOST_BYTES) -> None:
        self._most_responses = most_responses
        self._most_bytes = most_bytes
        self._responses: OrderedDict[str, Stored] = OrderedDict()
        self._items: dict[str, Item] = {}
        self._bytes = 0

    def get(self, id: str) -> Stored:
        """The response with this id; 404 if there is none."""
        if (stored := self._responses.get(id)) is None:
            raise ApiError(404, f"Response with id '{id[:100]}' not found.", param="id", code="response_not_found")
        return stored

    def before(self, id: str | None) -> list[Item]:
        """The conversation up to the response with this id; 400 if there is none, or if it is not finished."""
        if id is None:
            return []
        if (stored := self._responses.get(id)) is None:
            message = f"Previous response with id '{id[:100]}' not found."
            raise wrong("previous_response_id", message, "previous_response_not_found")
        if not stored.answer.ended:
            message = f"The response '{id}' is still being made: wait for its end, or cancel it."
            raise wrong("previous_response_id", message, "previous_response_not_finished")
        return stored.conversation

    def received(self, given: str | list[InputItem] | None) -> list[Item]:
        """A request's input as items; what it refers to is looked up. Raises ApiError."""
        if isinstance(given, str):
            given = [Message(role="user", content=given)]
        return list(self._received(given or []))

    def add(self, stored: Stored) -> None:
        """Keep a response. When it is finished, `finished` must be called."""
        self._responses[stored.answer.id] = stored

    def finished(self, stored: Stored) -> None:
        """Count what a response takes, and forget others if need be."""
        if stored.answer.id not in self._responses or stored.size:  # deleted meanwhile, or counted
            return
        stored.size = len(msgspec.json.encode([stored.answer, stored.conversation]))
        stored.size += stored.background.log_size if stored.background else 0
        self._bytes += stored.size
        self._items.update((str(item.id), item) for item in [*stored.input, *stored.answer.output])
        while len(self._responses) > self._most_responses or self._bytes > self._most_bytes:
            oldest = next((one for one in self._responses.values() if one.size), None)
            if oldest is None:
                return
            self.forget(oldest)

    def forget(self, stored: Stored) -> None:
        """Drop a response; conversations that went on from it keep what was said."""
        del self._responses[stored.answer.id]
        self._bytes -= stored.size
        for item in [*stored.input, *stored.answer.output]:
            if self._items.get(str(item.id)) is item:
                del self._items[str(item.id)]

    def close(self) -> None:
        """End what is being made."""
        for stored in self._responses.values():
            if stored.background:
                stored.background.end()

    def _received(self, given: Sequence[InputItem]) -> Iterator[Item]:
        for number, item in enumerate(given):
            if isinstance(item, ItemReference):
                if (known := self._items.get(item.id)) is None:
                    at = f"input[{number}].id"
                    raise wrong(at, f"Item with id '{item.id[:100]}' not found.", "item_not_found")
                yield known
            elif not isinstance(item, WebSearchCall):
                yield received(item)
