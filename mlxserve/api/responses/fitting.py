"""Making a conversation fit into the model's context, by what it began with."""

from __future__ import annotations

from mlxserve.api.question import PromptTooLong, generations
from mlxserve.api.responses.conversation import orphans
from mlxserve.api.responses.items import CustomCall, CustomOutput, FunctionCall, FunctionOutput, Item, Message
from mlxserve.api.responses.request import ResponsesRequest
from mlxserve.api.responses.tools import Toolbox
from mlxserve.api.serving import Serving
from mlxserve.text.generation import Generation

ROOM = 8
"""The part of the context, as 1 / ROOM, that is left to an answer where something must be dropped."""


class Asking:
    """A request with all that it is answered from. Raises ApiError where it cannot be asked."""

    def __init__(
        self, serving: Serving, request: ResponsesRequest, toolbox: Toolbox, body_size: int, client: str
    ) -> None:
        self._serving = serving
        self._request = request
        self._toolbox = toolbox
        self._body_size = body_size
        self._client = client

    async def generation(self, items: list[Item]) -> Generation:
        """Ready to run. With `truncation` "auto" the oldest items are dropped where not all fit."""
        try:
            return await self._whole(items)
        except PromptTooLong:
            if self._request.truncation != "auto":
                raise
        return await self._shortened(items)

    async def _whole(self, items: list[Item]) -> Generation:
        question = self._request.question(items, self._toolbox)
        [generation] = await generations(self._serving, question, self._body_size, self._client)
        return generation

    async def _shortened(self, items: list[Item]) -> Generation:
        """With as few items dropped as will do, found by halving: each try renders and encodes what is left."""
        kept = items[-1]
        droppable = [place for place, item in enumerate(items[:-1]) if not (_instructs(item) or _answers(kept, item))]
        low, high, found = 1, len(droppable), None
        while low < high:
            middle = (low + high) // 2
            if (tried := await self._fitting(items, droppable[:middle])) is not None:
                high, found = middle, tried
            else:
                low = middle + 1
        return found or await self._whole(_without(items, droppable))

    async def _fitting(self, items: list[Item], dropped: list[int]) -> Generation | None:
        try:
            generation = await self._whole(_without(items, dropped))
        except PromptTooLong:
            return None
        _, ready = self._serving.require_ready()
        room = ready.context_length // ROOM
        wanted = min(room, self._request.max_output_tokens or room)
        return generation if len(generation.prompt) + wanted <= ready.context_length else None


def _instructs(item: Item) -> bool:
    return isinstance(item, Message) and item.role in ("system", "developer")


def _answers(output: Item, call: Item) -> bool:
    if not isinstance(output, FunctionOutput | CustomOutput):
        return False
    return isinstance(call, FunctionCall | CustomCall) and output.call_id == call.call_id


def _without(items: list[Item], dropped: list[int]) -> list[Item]:
    """`items` without those, and without outputs of calls that are among them."""
    gone = set(dropped)
    left = [item for place, item in enumerate(items) if place not in gone]
    lost = set(orphans(left))
    return [item for place, item in enumerate(left) if place not in lost]
