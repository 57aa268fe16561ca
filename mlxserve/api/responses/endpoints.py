"""The addresses below /v1/responses."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.body import read_body
from mlxserve.api.client import client_of
from mlxserve.api.delivery import whole
from mlxserve.api.models import check_model
from mlxserve.api.responses.answer import Deleted, InputTokens, ItemPage, opened
from mlxserve.api.responses.background import Background
from mlxserve.api.responses.conversation import orphans
from mlxserve.api.responses.fitting import Asking
from mlxserve.api.responses.items import Item
from mlxserve.api.responses.narration import Narration
from mlxserve.api.responses.refusal import wrong
from mlxserve.api.responses.request import ResponsesRequest, read_request
from mlxserve.api.responses.run import Run
from mlxserve.api.responses.store import Store, Stored
from mlxserve.api.responses.tools import Toolbox
from mlxserve.api.serving import Serving, serving_of
from mlxserve.api.sse import EventStream
from mlxserve.api.traffic.exchange import exchange_of
from mlxserve.text.generation import Generation


class Asked(msgspec.Struct):
    """A request that can be answered, and from what."""

    request: ResponsesRequest
    toolbox: Toolbox
    inherited: list[Item]
    input: list[Item]
    generation: Generation


async def create_response(http: Request) -> Response:
    """POST /v1/responses. Everything that can be refused is refused before the first byte."""
    serving, store = serving_of(http), store_of(http)
    asked = await _ask(http)
    request = asked.request
    answer = opened(request, serving.name, asked.toolbox, asked.generation)
    stored = Stored(answer, asked.inherited, asked.input)
    run = Run(Narration(answer, asked.toolbox, asked.generation), partial(_keep, store, stored), exchange_of(http))
    if request.background:
        return _in_background(serving, store, stored, run, bool(request.stream))
    if request.stream:
        return EventStream(run.events(), run.progress, serving.keep_alive)
    return await whole(http, answer.id, [asked.generation], run.whole())


async def retrieve_response(http: Request) -> Response:
    """GET /v1/responses/{id}, with `stream` the events of one that was begun as a stream in the background."""
    stored = store_of(http).get(http.path_params["id"])
    if http.query_params.get("stream", "false").lower() not in ("true", "1"):
        return _json(stored.answer)
    background = stored.background
    if background is None or not background.streams:
        raise wrong("stream", "Only responses made with both 'background' and 'stream' can be streamed again.")
    events = background.follow(_number(http, "starting_after", -1, 0, 2**53))
    return EventStream(events, background.progress, serving_of(http).keep_alive)


async def delete_response(http: Request) -> Response:
    """DELETE /v1/responses/{id}; one that is being made is made no further."""
    store = store_of(http)
    stored = store.get(http.path_params["id"])
    store.forget(stored)
    if stored.background:
        await stored.background.cancel()
    return _json(Deleted(stored.answer.id))


async def cancel_response(http: Request) -> Response:
    """POST /v1/responses/{id}/cancel; one that has ended stays as it is."""
    stored = store_of(http).get(http.path_params["id"])
    if stored.background is None:
        raise wrong("id", "Only a response made with 'background' can be cancelled: close the connection of others.")
    await stored.background.cancel()
    return _json(stored.answer)


async def list_input_items(http: Request) -> Response:
    """GET /v1/responses/{id}/input_items: the conversation that it answers, the latest first."""
    stored = store_of(http).get(http.path_params["id"])
    items = [*stored.inherited, *stored.input]
    order = http.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise wrong("order", "'order' must be 'asc' or 'desc'.")
    if order == "desc":
        items.reverse()
    if after := http.query_params.get("after"):
        places = [place for place, item in enumerate(items) if item.id == after]
        if not places:
            raise wrong("after", f"Item with id '{after[:100]}' not found.", "item_not_found")
        items = items[places[0] + 1 :]
    limit = _number(http, "limit", 20, 1, 100)
    listed = items[:limit]
    ids = [item.id for item in listed] or [None]
    return _json(ItemPage(listed, ids[0], ids[-1], has_more=len(items) > limit))


async def count_input_tokens(http: Request) -> Response:
    """POST /v1/responses/input_tokens: how long the prompt of a request is."""
    asked = await _ask(http)
    return _json(InputTokens(len(asked.generation.prompt)))


def store_of(http: Request) -> Store:
    """The one that `create_app` made."""
    store: Store = http.app.state.responses
    return store


async def _ask(http: Request) -> Asked:
    """Raises ApiError where it cannot be answered."""
    serving, store = serving_of(http), store_of(http)
    body = await read_body(http, serving.body_limit)
    request, toolbox = await serving.in_thread(lambda: _read(body), len(body))
    check_model(serving, request.model)
    inherited = store.before(request.previous_response_id)
    own = store.received(request.input)
    _check_outputs(inherited, own)
    size = serving.body_limit if inherited else len(body)
    generation = await Asking(serving, request, toolbox, size, client_of(http)).generation([*inherited, *own])
    return Asked(request, toolbox, inherited, own, generation)


def _read(body: bytes) -> tuple[ResponsesRequest, Toolbox]:
    request = read_request(body)
    return request, request.toolbox()


def _check_outputs(inherited: list[Item], own: list[Item]) -> None:
    for place in orphans([*inherited, *own]):
        if place >= len(inherited):
            item: Any = own[place - len(inherited)]
            raise wrong("input", f"No tool call found for the output with call_id '{item.call_id[:100]}'.")


def _in_background(serving: Serving, store: Store, stored: Stored, run: Run, stream: bool) -> Response:
    stored.background = Background(run, stream)
    store.add(stored)
    if stream:
        return EventStream(stored.background.follow(-1), run.progress, serving.keep_alive)
    return _json(stored.answer)


def _keep(store: Store, stored: Stored) -> None:
    """A finished response, where it is to be kept; in the background it is there already."""
    if stored.answer.store and stored.background is None:
        store.add(stored)
    store.finished(stored)


def _number(http: Request, name: str, default: int, least: int, most: int) -> int:
    given = http.query_params.get(name)
    if given is None:
        return default
    if given.isascii() and given.isdecimal() and len(given) < 17 and least <= int(given) <= most:
        return int(given)
    raise wrong(name, f"'{name}' must be a number from {least} to {most}.")


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")
