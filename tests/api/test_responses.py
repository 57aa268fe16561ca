"""Answers by the Responses API, streamed and not, as the official client reads them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel, TypeAdapter

from mlxserve.engine import messages

from .scripted_engine import ScriptedEngine
from .test_pieces import ANSWERS, CALL

pytestmark = pytest.mark.anyio

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": False,
}
OF_THIS_ANSWER = {"id", "call_id", "created_at", "completed_at", "item_id"}


class City(BaseModel):
    name: str
    people: int


def same(value: Any) -> Any:
    """`value` without what differs from answer to answer."""
    if isinstance(value, dict):
        return {name: same(one) for name, one in value.items() if name not in OF_THIS_ANSWER}
    return [same(one) for one in value] if isinstance(value, list) else value


async def events_of(http: httpx.AsyncClient, **fields: Any) -> list[dict[str, Any]]:
    """The events of a stream, each as strictly what the client's types say."""
    answer = await http.post("/v1/responses", json={"input": "Hi", "stream": True} | fields)
    assert answer.headers["content-type"].startswith("text/event-stream")
    return events_in(answer.text)


def events_in(text: str) -> list[dict[str, Any]]:
    events = []
    for block in filter(lambda block: block and not block.startswith(":"), text.split("\n\n")):
        kind, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert kind == f"event: {event['type']}"
        EVENT.validate_python(event)
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    return events


def put_together(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items that the events alone make, each event in its place."""
    items: list[dict[str, Any]] = []
    for event in events:
        kind = event["type"].removeprefix("response.")
        if "item_id" in event:
            assert event["item_id"] == items[event["output_index"]]["id"]
        match kind:
            case "output_item.added":
                assert event["output_index"] == len(items)
                items.append(event["item"])
            case "content_part.added":
                items[-1]["content"].append(event["part"])
            case "output_text.delta" | "reasoning_text.delta":
                items[-1]["content"][-1]["text"] += event["delta"]
                items[-1]["content"][-1].get("logprobs", []).extend(event.get("logprobs", []))
            case "function_call_arguments.delta":
                items[-1]["arguments"] += event["delta"]
            case "output_text.done" | "reasoning_text.done":
                assert items[-1]["content"][-1]["text"] == event["text"]
            case "content_part.done":
                assert items[-1]["content"][-1] == event["part"]
            case "function_call_arguments.done":
                assert items[-1]["arguments"] == event["arguments"]
            case "output_item.done":
                items[-1]["status"] = event["item"]["status"]
                assert items[-1] == event["item"]
    return items


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_stream_puts_together_what_comes_whole(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any, name: str
) -> None:
    written, content, reasoning, cities = ANSWERS[name]
    engine.script = plain.encode(written, add_special_tokens=False)
    whole = (await http.post("/v1/responses", json={"input": "Hi", "tools": [WEATHER]})).json()
    Response.model_validate(whole)
    answer = Response.construct(**whole)
    assert answer.status == "completed"
    said = "".join(item["content"][0]["text"] for item in whole["output"] if item["type"] == "message")
    thought = "".join(item["content"][0]["text"] for item in whole["output"] if item["type"] == "reasoning")
    calls = [json.loads(item["arguments"]) for item in whole["output"] if item["type"] == "function_call"]
    assert (said, thought, calls) == (content or "", reasoning or "", [{"city": city} for city in cities])

    events = await events_of(http, tools=[WEATHER])
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[0]["response"]["output"] == []
    assert events[-1]["type"] == "response.completed"
    assert same(events[-1]["response"]) == same(whole)
    assert put_together(events) == events[-1]["response"]["output"]
    assert len({event["response"]["id"] for event in events if "response" in event}) == 1


async def test_the_events_of_each_kind_of_item_come_in_openais_order(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode(f"<think>a</think>\nb{CALL}", add_special_tokens=False)
    kinds = [event["type"].removeprefix("response.") for event in await events_of(http, tools=[WEATHER])]
    assert kinds == [
        *("created", "in_progress"),
        *("output_item.added", "content_part.added", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"),
        "completed",
    ]


async def test_the_helpers_of_the_client_follow_a_stream(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode(f"<think>Hm.</think>Paris 🎉{CALL}", add_special_tokens=False)
    tools: Any = [WEATHER]
    whole = await client.responses.create(model="", input="Hi", tools=tools)
    async with client.responses.stream(model="", input="Hi", tools=tools) as stream:
        snapshots = [event.snapshot async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert snapshots[-1] == whole.output_text == final.output_text == "Paris 🎉"
    assert [item.type for item in final.output] == ["reasoning", "message", "function_call"]


async def test_the_synchronous_client_reads_the_same(base: str, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = plain.encode("Paris.", add_special_tokens=False)

    def ask() -> tuple[str, str]:
        with openai.OpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0) as client:
            whole = client.responses.create(model="", input="Hi").output_text
            with client.responses.stream(model="", input="Hi") as stream:
                return whole, stream.get_final_response().output_text

    assert await asyncio.to_thread(ask) == ("Paris.", "Paris.")


async def test_an_answer_is_parsed_into_the_clients_type(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode('{"name": "Bern", "people": 134794}', add_special_tokens=False)
    parsed = await client.responses.parse(model="", input="Which?", text_format=City)
    submitted = await engine.submitted.get()
    assert parsed.output_parsed == City(name="Bern", people=134794)
    assert "people" in submitted.grammar
    async with client.responses.stream(model="", input="Which?", text_format=City) as stream:
        assert (await stream.get_final_response()).output_parsed == parsed.output_parsed


@pytest.mark.parametrize(
    ("form", "constrained"),
    [
        ({"type": "text"}, False),
        ({"type": "json_object"}, True),
        ({"type": "json_schema", "name": "x", "schema": {"type": "object"}, "strict": True}, True),
    ],
)
async def test_forms_of_text_become_grammars(
    client: AsyncOpenAI, engine: ScriptedEngine, form: Any, constrained: bool
) -> None:
    text: Any = {"format": form, "verbosity": "low"}
    answer = await client.responses.create(model="", input="Hi", text=text)
    assert bool((await engine.submitted.get()).grammar) is constrained
    assert answer.text
    assert answer.text.to_dict() == text


async def test_what_was_asked_is_told_again(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    fields: dict[str, Any] = {
        "instructions": "Be brief.",
        "max_output_tokens": 50,
        "max_tool_calls": 3,
        "metadata": {"a": "b"},
        "parallel_tool_calls": False,
        "prompt_cache_key": "k",
        "reasoning": {"effort": "low", "summary": "auto"},
        "safety_identifier": "s",
        "store": False,
        "temperature": 0.5,
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "weather"}]},
        "tools": [WEATHER],
        "top_logprobs": 2,
        "top_p": 0.9,
        "truncation": "auto",
        "user": "u",
    }
    answer = (await client.responses.create(model="", input="Hi", **fields)).to_dict()
    assert {name: answer.get(name) for name in fields} == fields
    submitted = await engine.submitted.get()
    assert (submitted.sampling.temperature, submitted.sampling.top_p, submitted.max_tokens) == (0.5, 0.9, 50)


async def test_what_matters_to_openai_alone_is_taken(http: httpx.AsyncClient) -> None:
    fields = {
        "service_tier": "flex",
        "include": ["reasoning.encrypted_content", "file_search_call.results"],
        "stream_options": {"include_obfuscation": False},
        "prompt_cache_retention": "24h",
        "text": None,
        "tools": None,
        "tool_choice": None,
        "metadata": None,
        "reasoning": None,
        "conversation": None,
        "no_such_field": {"a": 1},
    }
    answer = await http.post("/responses", json={"input": "Hi", **fields})
    assert (answer.status_code, answer.json()["status"]) == (200, "completed")


async def test_usage_counts_prompt_answer_and_reasoning(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    thought = plain.encode("<think>Hm.</think>", add_special_tokens=False)
    engine.script = thought + plain.encode("Yes", add_special_tokens=False)
    usage = (await client.responses.create(model="", input="Hi")).usage
    assert usage
    assert usage.input_tokens == len((await engine.submitted.get()).prompt)
    assert usage.output_tokens == len(engine.script) + 1
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert (usage.output_tokens_details.reasoning_tokens, usage.input_tokens_details.cached_tokens) == (len(thought), 0)


@pytest.mark.parametrize("written", ["The capital of France", "<think>The capital of France"])
async def test_an_answer_that_is_cut_off_is_incomplete(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any, written: str
) -> None:
    engine.script = plain.encode(written, add_special_tokens=False)
    whole = (await http.post("/v1/responses", json={"input": "Hi", "max_output_tokens": 4})).json()
    events = await events_of(http, max_output_tokens=4)
    for answer in (whole, events[-1]["response"]):
        assert answer["status"] == "incomplete"
        assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
        assert [item["status"] for item in answer["output"]] == ["incomplete"]
    assert events[-1]["type"] == "response.incomplete"
    assert put_together(events) == events[-1]["response"]["output"]
    assert same(whole) == same(events[-1]["response"])


async def test_log_probabilities_come_where_they_are_included(
    client: AsyncOpenAI, http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode("Paris 🎉", add_special_tokens=False)
    engine.likelihood = messages.Likelihood(-0.5, [(engine.script[0], -0.5), (engine.script[1], -1.5)])
    fields: Any = {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
    answer = await client.responses.create(model="", input="Hi", **fields)
    assert (await engine.submitted.get()).top_logprobs == 2
    [message] = answer.output
    assert message.type == "message"
    part = message.content[0]
    assert part.type == "output_text"
    assert part.logprobs
    assert b"".join(bytes(one.bytes) for one in part.logprobs).decode() == "Paris 🎉"
    assert [top.logprob for top in part.logprobs[0].top_logprobs] == [-0.5, -1.5]
    events = await events_of(http, **fields)
    assert put_together(events)[0]["content"][0] == part.to_dict()


async def test_sampling_that_chat_knows_is_taken_too(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    fields = {"seed": 7, "top_k": 3, "presence_penalty": 0.5, "logit_bias": {"5": -100}, "stop": ["x"]}
    assert (await http.post("/v1/responses", json={"input": "Hi", **fields})).json()["presence_penalty"] == 0.5
    sampling = (await engine.submitted.get()).sampling
    assert (sampling.seed, sampling.top_k, sampling.presence_penalty, sampling.logit_bias) == (7, 3, 0.5, [(5, -100)])


async def test_input_tokens_are_counted_without_an_answer(client: AsyncOpenAI, engine: ScriptedEngine) -> None:
    counted = await client.responses.input_tokens.count(model="", input="Hi", instructions="Be brief.")
    assert engine.submitted.empty()
    await client.responses.create(model="", input="Hi", instructions="Be brief.")
    assert counted.input_tokens == len((await engine.submitted.get()).prompt)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_its_sequence(
    http: httpx.AsyncClient, engine: ScriptedEngine, stream: bool
) -> None:
    engine.script = None
    asking = asyncio.create_task(http.post("/v1/responses", json={"input": "Hi", "stream": stream}))
    submitted = await engine.submitted.get()
    asking.cancel()
    assert await asyncio.wait_for(engine.cancelled.get(), 5) == submitted.id
    assert engine.client.open_sequences == 0


async def test_a_failure_of_the_engine_ends_a_stream_with_an_event_and_is_500_else(
    client: AsyncOpenAI, http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = None
    streaming = asyncio.create_task(events_of(http))
    submitted = await engine.submitted.get()
    engine.say(submitted.id, *plain.encode("Hello", add_special_tokens=False))
    engine.client.receive(messages.Failed(submitted.id, "no memory for its cache"))
    events = await streaming
    failed = events[-1]["response"]
    assert (events[-1]["type"], failed["status"], failed["error"]["code"]) == (
        "response.failed",
        "failed",
        "server_error",
    )
    assert "no memory for its cache" in failed["error"]["message"]
    assert (put_together(events), failed["output"][0]["status"]) == (failed["output"], "incomplete")
    asking = asyncio.create_task(client.responses.create(model="", input="Hi"))
    engine.client.receive(messages.Failed((await engine.submitted.get()).id, "no memory for its cache"))
    with pytest.raises(openai.InternalServerError, match="no memory for its cache"):
        await asking


async def test_a_mistake_of_ours_is_an_error_event_and_the_server_serves_on(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    no_token: Any = ["not a token"]
    engine.script = no_token
    events = await events_of(http)
    assert [event["type"] for event in events[-2:]] == ["error", "response.failed"]
    assert "its log says why" in events[-2]["message"]
    engine.script = []
    assert (await events_of(http))[-1]["type"] == "response.completed"


async def test_a_long_prompt_gets_headers_at_once_and_comments(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = None
    async with http.stream("POST", "/v1/responses", json={"input": "Hi", "stream": True}) as answer:
        submitted = await engine.submitted.get()
        lines = answer.aiter_lines()
        while not (line := await anext(lines)).startswith(": "):
            pass
        engine.say(submitted.id, *plain.encode("ok", add_special_tokens=False), 2, finish="stop")
        rest = [line async for line in lines]
    assert line == f": 0 of {len(submitted.prompt)} prompt tokens read"
    assert rest.count("event: response.completed") == 1


async def test_many_at_once(client: AsyncOpenAI, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = plain.encode("The capital of France is Paris.", add_special_tokens=False)

    async def ask(stream: bool) -> str:
        if not stream:
            return (await client.responses.create(model="", input="Hi")).output_text
        events = await client.responses.create(model="", input="Hi", stream=True)
        return "".join([event.delta async for event in events if event.type == "response.output_text.delta"])

    assert set(await asyncio.gather(*(ask(bool(i % 2)) for i in range(30)))) == {"The capital of France is Paris."}
