"""Responses that are asked for later, and those that are made while no client waits."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseItemList

from mlxserve.api.errors import ApiError
from mlxserve.api.responses.answer import opened
from mlxserve.api.responses.items import Item, Message
from mlxserve.api.responses.request import ResponsesRequest
from mlxserve.api.responses.store import Store, Stored
from mlxserve.engine import messages
from mlxserve.engine.client import EngineClient
from mlxserve.text.generation import Generation, Task
from mlxserve.text.tokenizer import load_tokenizer

from .conftest import Serve
from .scripted_engine import ScriptedEngine
from .test_responses import events_in, put_together

pytestmark = pytest.mark.anyio

BACKGROUND = {"input": "Hi", "background": True}


async def ended(client: AsyncOpenAI, id: str) -> Response:
    while (answer := await client.responses.retrieve(id)).status in ("queued", "in_progress"):
        pass
    return answer


@pytest.mark.parametrize("stream", [False, True])
async def test_a_response_is_kept_until_it_is_deleted(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any, stream: bool
) -> None:
    engine.script = plain.encode("Paris.", add_special_tokens=False)
    if stream:
        events = [event async for event in await client.responses.create(model="", input="Hi", stream=True)]
        assert events[-1].type == "response.completed"
        made = events[-1].response
    else:
        made = await client.responses.create(model="", input="Hi")
    assert (await client.responses.retrieve(made.id)).to_dict() == made.to_dict()
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)


async def test_a_deleted_response_says_so(http: httpx.AsyncClient) -> None:
    id = (await http.post("/v1/responses", json={"input": "Hi"})).json()["id"]
    assert (await http.delete(f"/v1/responses/{id}")).json() == {"id": id, "object": "response", "deleted": True}


async def test_what_is_not_to_be_stored_cannot_be_found(client: AsyncOpenAI) -> None:
    made = await client.responses.create(model="", input="Hi", store=False)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)
    with pytest.raises(openai.BadRequestError) as raised:
        await client.responses.create(model="", input="Hi", previous_response_id=made.id)
    assert (raised.value.code, raised.value.param) == ("previous_response_not_found", "previous_response_id")


async def test_what_is_not_there_is_404(http: httpx.AsyncClient) -> None:
    for id in ("resp_0", "%00", "x" * 3000, "🎉"):
        for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")):
            answer = await http.request(method, f"/v1/responses/{id}{path}")
            assert answer.status_code == 404, (id, path)
            assert answer.json()["error"]["code"] == "response_not_found"
            assert len(answer.json()["error"]["message"]) < 300


async def test_a_client_that_left_left_nothing(http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = None
    async with http.stream("POST", "/v1/responses", json={"input": "Hi", "stream": True}) as answer:
        submitted = await engine.submitted.get()
        engine.say(submitted.id, *plain.encode("and so", add_special_tokens=False))
        text = ""
        async for line in answer.aiter_lines():
            text += line
            if "delta" in line:
                break
    await asyncio.wait_for(engine.cancelled.get(), 5)
    id = text.split('"id":"')[1].split('"')[0]
    assert id.startswith("resp_")
    assert (await http.get(f"/v1/responses/{id}")).status_code == 404


async def test_input_items_are_listed_by_pages(client: AsyncOpenAI, http: httpx.AsyncClient) -> None:
    texts = [str(number) for number in range(25)]
    made = await client.responses.create(model="", input=[{"role": "user", "content": text} for text in texts])

    def text(item: Any) -> str:
        return str(item.content[0].text)

    latest_first = [text(item) async for item in client.responses.input_items.list(made.id, limit=10)]
    assert latest_first == texts[::-1]
    oldest_first = [text(item) async for item in client.responses.input_items.list(made.id, order="asc")]
    assert oldest_first == texts
    page = (await http.get(f"/v1/responses/{made.id}/input_items")).json()
    assert (len(page["data"]), page["has_more"]) == (20, True)
    assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])


async def test_input_items_of_all_kinds_are_as_the_client_knows_them(http: httpx.AsyncClient) -> None:
    items = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "c"}]},
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "d"}]},
        {"type": "custom_tool_call", "call_id": "2", "name": "g", "input": "e"},
        {"type": "custom_tool_call_output", "call_id": "2", "output": "f", "id": "mine"},
    ]
    first = (await http.post("/v1/responses", json={"input": items})).json()
    second = (await http.post("/v1/responses", json={"input": "g", "previous_response_id": first["id"]})).json()
    page = (await http.get(f"/v1/responses/{second['id']}/input_items?order=asc")).json()
    ResponseItemList.model_validate(page)
    kinds = ["message" if "role" in item else item["type"] for item in items]
    assert [item["type"] for item in page["data"]] == [*kinds, "message", "message"], "all that the model has read"
    assert page["data"][6]["id"] == "mine"
    assert len({item["id"] for item in page["data"]}) == 9


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "limit=1e1", "order=up", "after=msg_0"])
async def test_a_page_that_there_is_not_is_refused(http: httpx.AsyncClient, query: str) -> None:
    id = (await http.post("/v1/responses", json={"input": "Hi"})).json()["id"]
    answer = await http.get(f"/v1/responses/{id}/input_items?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, query.split("=")[0])


async def test_a_background_response_is_made_while_nobody_waits(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = None
    made = await client.responses.create(model="", input="Hi", background=True)
    assert (made.status, made.background, made.output) == ("queued", True, [])
    submitted = await engine.submitted.get()
    assert (await client.responses.retrieve(made.id)).status == "in_progress"
    with pytest.raises(openai.BadRequestError, match="still being made"):
        await client.responses.create(model="", input="Hi", previous_response_id=made.id)
    engine.say(submitted.id, *plain.encode("Paris.", add_special_tokens=False), 2, finish="stop")
    answer = await ended(client, made.id)
    assert (answer.status, answer.output_text) == ("completed", "Paris.")
    engine.script = []
    assert (await client.responses.create(model="", input="Hi", previous_response_id=made.id)).status == "completed"
    assert (await client.responses.cancel(made.id)).status == "completed", "too late"


async def test_cancelling_ends_the_generation_with_what_there_is(
    client: AsyncOpenAI, http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = None
    async with http.stream("POST", "/v1/responses", json=BACKGROUND | {"stream": True}) as stream:
        submitted = await engine.submitted.get()
        engine.say(submitted.id, *plain.encode("and so", add_special_tokens=False))
        text, lines = "", stream.aiter_lines()
        while "delta" not in text:
            text += await anext(lines) + "\n"
        id = text.split('"id":"')[1].split('"')[0]
        cancelled = await client.responses.cancel(id)
        assert await asyncio.wait_for(engine.cancelled.get(), 5) == submitted.id
        rest = [line async for line in lines]
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "and so")
    events = events_in(text + "\n".join(rest) + "\n")
    assert (events[-1]["type"], events[-1]["response"]["status"]) == ("response.incomplete", "cancelled")
    assert put_together(events) == events[-1]["response"]["output"]
    assert engine.client.open_sequences == 0
    assert (await client.responses.retrieve(id)).to_dict() == cancelled.to_dict()


async def test_cancelling_at_once_is_cancelling_too(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.script = None
    made = [(await http.post("/v1/responses", json=BACKGROUND)).json()["id"] for _ in range(10)]
    answers = await asyncio.gather(*(http.post(f"/v1/responses/{id}/cancel") for id in made for _ in range(2)))
    assert {answer.json()["status"] for answer in answers} == {"cancelled"}
    assert engine.client.open_sequences == 0


async def test_only_what_runs_in_the_background_can_be_cancelled(client: AsyncOpenAI) -> None:
    made = await client.responses.create(model="", input="Hi")
    with pytest.raises(openai.BadRequestError, match="background"):
        await client.responses.cancel(made.id)


async def test_deleting_what_is_being_made_ends_it(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.script = None
    made = await client.responses.create(model="", input="Hi", background=True)
    submitted = await engine.submitted.get()
    await client.responses.delete(made.id)
    assert await asyncio.wait_for(engine.cancelled.get(), 5) == submitted.id
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)


async def test_a_background_stream_can_be_left_and_taken_up_again(
    http: httpx.AsyncClient, client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = None
    async with http.stream("POST", "/v1/responses", json=BACKGROUND | {"stream": True}) as stream:
        submitted = await engine.submitted.get()
        engine.say(submitted.id, *plain.encode("Pa", add_special_tokens=False))
        text = ""
        async for line in stream.aiter_lines():
            text += line
            if "delta" in line:
                break
    id = text.split('"id":"')[1].split('"')[0]
    following = asyncio.create_task(http.get(f"/v1/responses/{id}?stream=true"))
    engine.say(submitted.id, *plain.encode("ris.", add_special_tokens=False), 2, finish="stop")
    assert (await ended(client, id)).output_text == "Paris."
    events = events_in((await following).text)
    assert [event["type"] for event in events[:3]] == [
        "response.created",
        "response.queued",
        "response.in_progress",
    ]
    assert put_together(events) == events[-1]["response"]["output"]
    later = await client.responses.retrieve(id, stream=True, starting_after=5)
    numbers = [event.sequence_number async for event in later]
    assert numbers == [event["sequence_number"] for event in events[6:]]
    async with client.responses.stream(response_id=id) as helped:
        assert (await helped.get_final_response()).output_text == "Paris."


@pytest.mark.parametrize("query", ["stream=true", "stream=true&starting_after=x", "stream=1"])
async def test_other_responses_are_not_streamed_again(http: httpx.AsyncClient, query: str) -> None:
    for fields in ({"input": "Hi"}, BACKGROUND):
        id = (await http.post("/v1/responses", json=fields)).json()["id"]
        answer = await http.get(f"/v1/responses/{id}?{query}")
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "stream")


async def test_a_background_response_that_fails_says_so(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.script = None
    made = await client.responses.create(model="", input="Hi", background=True)
    engine.client.receive(messages.Failed((await engine.submitted.get()).id, "no memory"))
    answer = await ended(client, made.id)
    assert (answer.status, answer.error and answer.error.code) == ("failed", "server_error")
    assert answer.error
    assert "no memory" in answer.error.message


async def test_the_servers_end_ends_what_runs_in_the_background(
    serve: Serve, engine: ScriptedEngine, settings: Any, folder: Any
) -> None:
    engine.script = None
    async with serve(settings) as address:
        engine.connect()
        engine.find_model(folder)
        engine.become_ready()
        async with httpx.AsyncClient(base_url=address) as http:
            while (await http.get("/health")).status_code != 200:
                pass
            await http.post("/v1/responses", json=BACKGROUND)
        submitted = await engine.submitted.get()
    assert await asyncio.wait_for(engine.cancelled.get(), 5) == submitted.id


@pytest.fixture
def made(folder: Any) -> Any:
    """Makes stored responses to a text, finished ones unless told otherwise."""
    generation = Generation(EngineClient(), load_tokenizer(folder), Task([1]))

    def make(text: str = "", status: Any = "completed") -> Stored:
        request = ResponsesRequest(input=text)
        answer = opened(request, "m", request.toolbox(), generation)
        answer.status = status
        items: list[Item] = [Message(id=f"msg_{answer.id}", role="user", content=text)]
        return Stored(answer, [], items)

    return make


async def test_the_oldest_responses_are_forgotten_first_and_never_those_being_made(made: Any) -> None:
    store = Store(most_responses=3)
    running, *others = made(status="in_progress"), *(made() for _ in range(5))
    store.add(running)
    for stored in others:
        store.add(stored)
        store.finished(stored)
    assert [_has(store, stored) for stored in (running, *others)] == [True, False, False, False, True, True]
    store.finished(running)
    assert _has(store, running)


async def test_so_many_bytes_are_kept_and_no_more(made: Any) -> None:
    store = Store(most_bytes=20_000)
    many = [made("x" * 5000) for _ in range(10)]
    for stored in many:
        store.add(stored)
        store.finished(stored)
    kept = [stored for stored in many if _has(store, stored)]
    assert kept == many[-3:]
    huge = made("x" * 30_000)
    store.add(huge)
    store.finished(huge)
    assert not _has(store, huge)
    small = made()
    store.add(small)
    store.finished(small)
    assert _has(store, small), "what is forgotten counts no longer"


def _has(store: Store, stored: Stored) -> bool:
    try:
        return store.get(stored.answer.id) is stored
    except ApiError:
        return False
