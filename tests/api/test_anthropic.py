"""Answers of /v1/messages, streamed and not, as Anthropic's own client reads them."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import anthropic
import httpx
import pytest
from anthropic import AsyncAnthropic
from anyio import to_thread

from mlxserve.engine import messages

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

HI: list[Any] = [{"role": "user", "content": "Hi"}]
WEATHER: Any = {
    "name": "weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
ZURICH = ("tool_use", "weather", {"city": "Zürich"})
ANSWERS: dict[str, tuple[str, list[Any], str]] = {
    "text": ("Paris. 日本 🎉\n", [("text", "Paris. 日本 🎉\n")], "end_turn"),
    "nothing": ("", [], "end_turn"),
    "lines": ("a\n\u2028\r\n\nevent: x\ndata: y", [("text", "a\n\u2028\r\n\nevent: x\ndata: y")], "end_turn"),
    "thinking": ("<think>\nHm, well.\n</think>\n\nYes.", [("thinking", "Hm, well."), ("text", "Yes.")], "end_turn"),
    "call": (CALL, [ZURICH], "tool_use"),
    "text and calls": (f"I look.\n\n{CALL}\n{CALL}", [("text", "I look."), ZURICH, ZURICH], "tool_use"),
    "all": (f"<think>a</think>b\n{CALL}", [("thinking", "a"), ("text", "b"), ZURICH], "tool_use"),
    "call without arguments": (
        '<tool_call>{"name": "weather", "arguments": {}}</tool_call>',
        [("tool_use", "weather", {})],
        "tool_use",
    ),
    "call cut off": ('<tool_call>\n{"name": "wea', [("text", '<tool_call>\n{"name": "wea')], "end_turn"),
    "call that JSON cannot say": (
        '<tool_call>{"name": "weather", "arguments": {"city": 1e999}}</tool_call>',
        [("text", '<tool_call>{"name": "weather", "arguments": {"city": 1e999}}</tool_call>')],
        "end_turn",
    ),
    "call with half a character": (
        '<tool_call>{"name": "weather", "arguments": {"city": "\\ud800"}}</tool_call>',
        [("text", '<tool_call>{"name": "weather", "arguments": {"city": "\\ud800"}}</tool_call>')],
        "end_turn",
    ),
    "stop": ("So it is. STOP More", [("text", "So it is. ")], "stop_sequence"),
}


def plainly(content: list[Any]) -> list[Any]:
    """The blocks of a message as the cases above have them."""
    blocks: list[Any] = []
    for block in content:
        match block.type:
            case "text":
                blocks.append(("text", block.text))
            case "thinking":
                blocks.append(("thinking", block.thinking))
            case "tool_use":
                assert block.id.startswith("toolu_")
                blocks.append(("tool_use", block.name, block.input))
    return blocks


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_is_the_same_streamed_and_not(
    claude: AsyncAnthropic, engine: ScriptedEngine, plain: Any, name: str
) -> None:
    written, blocks, reason = ANSWERS[name]
    engine.script = plain.encode(written, add_special_tokens=False)
    fields: Any = {
        "model": "tiny",
        "max_tokens": 500,
        "messages": HI,
        "tools": [WEATHER],
        "stop_sequences": ["never", "STOP"],
    }
    whole = await claude.messages.create(**fields)
    async with claude.messages.stream(**fields) as stream:
        streamed = await stream.get_final_message()
    for message in (whole, streamed):
        assert plainly(message.content) == blocks
        assert message.stop_reason == reason
        assert message.stop_sequence == ("STOP" if reason == "stop_sequence" else None)
        assert (message.type, message.role, message.model) == ("message", "assistant", "mlx-community/Tiny-8bit")
        assert message.id.startswith("msg_")
        ids = [block.id for block in message.content if block.type == "tool_use"]
        assert len(set(ids)) == len(ids)
    assert whole.usage == streamed.usage
    assert whole._request_id
    assert whole._request_id.startswith("req_")
    submitted = await engine.submitted.get()
    assert whole.usage.input_tokens == len(submitted.prompt)
    if reason != "stop_sequence":
        assert whole.usage.output_tokens == len(engine.script) + 1, "the stop token counts"
    assert (whole.usage.cache_creation_input_tokens, whole.usage.cache_read_input_tokens) == (0, 0)


async def test_the_synchronous_client_streams_text(base: str, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = plain.encode("Hello there", add_special_tokens=False)

    def talk() -> tuple[str, str]:
        with (
            anthropic.Anthropic(base_url=base, api_key="none", max_retries=0) as client,
            client.messages.stream(model="x", max_tokens=50, messages=HI) as stream,
        ):
            return "".join(stream.text_stream), stream.get_final_text()

    assert await to_thread.run_sync(talk) == ("Hello there", "Hello there")


async def test_the_events_of_a_stream_come_in_anthropics_order(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode(f"<think>a</think>b\n{CALL}", add_special_tokens=False)
    body = {"model": "x", "max_tokens": 300, "messages": HI, "tools": [WEATHER], "stream": True}
    answer = await http.post("/v1/messages?beta=true", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["request-id"].startswith("req_")
    events = events_of(answer.text)
    kinds = [event["type"] for event in events if event["type"] != "ping"]
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    signed = ["content_block_start", "content_block_delta", "content_block_delta", "content_block_stop"]
    assert kinds == ["message_start", *signed, *block, *block, "message_delta", "message_stop"]
    assert events[1]["type"] == "ping"
    started = events[0]["message"]
    assert (started["content"], started["stop_reason"], started["stop_sequence"]) == ([], None, None)
    assert started["usage"]["input_tokens"] > 0
    assert [event["index"] for event in events if "index" in event] == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    begun = [event["content_block"] for event in events if "content_block" in event]
    assert begun[0] == {"type": "thinking", "thinking": "", "signature": ""}
    assert begun[1] == {"type": "text", "text": ""}
    assert (begun[2]["type"], begun[2]["name"], begun[2]["input"]) == ("tool_use", "weather", {})
    deltas = [event["delta"] for event in events if event["type"] == "content_block_delta"]
    assert [delta["type"] for delta in deltas] == [
        "thinking_delta",
        "signature_delta",
        "text_delta",
        "input_json_delta",
    ]
    assert json.loads(deltas[-1]["partial_json"]) == {"city": "Zürich"}
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}
    assert events[-2]["usage"]["output_tokens"] == len(engine.script) + 1


async def test_max_tokens_end_an_answer(claude: AsyncAnthropic, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = plain.encode("The capital of France is Paris.")
    answer = await claude.messages.create(model="x", max_tokens=2, messages=HI)
    assert (answer.stop_reason, answer.usage.output_tokens) == ("max_tokens", 2)


async def test_more_tokens_than_the_context_holds_may_be_asked_for(
    claude: AsyncAnthropic, engine: ScriptedEngine
) -> None:
    async with claude.messages.stream(model="x", max_tokens=32_000, messages=HI) as stream:
        await stream.get_final_message()
    submitted = await engine.submitted.get()
    assert submitted.max_tokens == 1000 - len(submitted.prompt)


async def test_a_begun_answer_goes_on_with_its_space(
    claude: AsyncAnthropic, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode(" Paris.", add_special_tokens=False)
    chat: Any = [*HI, {"role": "assistant", "content": "It is"}]
    answer = await claude.messages.create(model="x", max_tokens=50, messages=chat)
    assert plainly(answer.content) == [("text", " Paris.")]


async def test_thinking_tokens_are_counted(claude: AsyncAnthropic, engine: ScriptedEngine, plain: Any) -> None:
    thought = plain.encode("<think>Hm, well.</think>", add_special_tokens=False)
    engine.script = thought + plain.encode("Yes.", add_special_tokens=False)
    answer = await claude.messages.create(model="x", max_tokens=50, messages=HI)
    assert answer.usage.output_tokens_details
    assert answer.usage.output_tokens_details.thinking_tokens == len(thought)


async def test_a_tool_loop_of_a_client_reaches_the_model_whole(
    claude: AsyncAnthropic, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode(f"<think>Look.</think>I look.\n{CALL}", add_special_tokens=False)
    first = await claude.messages.create(model="x", max_tokens=300, messages=HI, tools=[WEATHER])
    await engine.submitted.get()
    call = first.content[-1]
    assert call.type == "tool_use"
    result: Any = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "Rain"}]}
    engine.script = plain.encode("It rains.", add_special_tokens=False)
    chat = [*HI, {"role": "assistant", "content": first.content}, {"role": "user", "content": [result]}]
    second = await claude.messages.create(model="x", max_tokens=300, messages=chat, tools=[WEATHER])
    assert plainly(second.content) == [("text", "It rains.")]
    text = plain.decode((await engine.submitted.get()).prompt)
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call>' in text
    assert "<|im_start|>user\n<tool_response>\nRain\n</tool_response><|im_end|>" in text


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "weather"}])
async def test_a_call_that_must_come_follows_a_grammar(
    claude: AsyncAnthropic, engine: ScriptedEngine, plain: Any, choice: Any
) -> None:
    engine.script = plain.encode('[{"name": "weather", "arguments": {"city": "Bern"}}]', add_special_tokens=False)
    fields: Any = {"model": "x", "max_tokens": 300, "messages": HI, "tools": [WEATHER], "tool_choice": choice}
    whole = await claude.messages.create(**fields)
    assert (await engine.submitted.get()).grammar
    async with claude.messages.stream(**fields) as stream:
        streamed = await stream.get_final_message()
    assert plainly(whole.content) == plainly(streamed.content) == [("tool_use", "weather", {"city": "Bern"})]
    assert whole.stop_reason == streamed.stop_reason == "tool_use"


@pytest.mark.parametrize("stream", [False, True])
async def test_without_parallel_calls_an_answer_ends_with_the_first(
    claude: AsyncAnthropic, engine: ScriptedEngine, plain: Any, stream: bool
) -> None:
    engine.script = plain.encode(f"{CALL}\n{CALL} and more", add_special_tokens=False)
    choice: Any = {"type": "auto", "disable_parallel_tool_use": True}
    fields: Any = {"model": "x", "max_tokens": 300, "messages": HI, "tools": [WEATHER], "tool_choice": choice}
    if stream:
        async with claude.messages.stream(**fields) as events:
            answer: Any = await events.get_final_message()
    else:
        answer = await claude.messages.create(**fields)
    assert plainly(answer.content) == [ZURICH]
    assert answer.stop_reason == "tool_use"
    assert engine.client.open_sequences == 0


async def test_the_answer_to_a_schema_follows_its_grammar(
    claude: AsyncAnthropic, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode('{"city": "Bern"}', add_special_tokens=False)
    form: Any = {"type": "json_schema", "schema": WEATHER["input_schema"]}
    for fields in ({"output_config": {"format": form}}, {"extra_body": {"output_format": form}}):
        answer = await claude.messages.create(model="x", max_tokens=300, messages=HI, **fields)  # type: ignore[call-overload]
        assert plainly(answer.content) == [("text", '{"city": "Bern"}')]
        assert (await engine.submitted.get()).grammar


async def test_a_silent_stream_is_pinged(http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = None
    body = {"model": "x", "max_tokens": 50, "messages": HI, "stream": True}
    async with http.stream("POST", "/v1/messages", json=body) as answer:
        assert answer.status_code == 200
        submitted = await engine.submitted.get()
        lines = answer.aiter_lines()
        seen = ""
        async with asyncio.timeout(5):
            while seen.count("event: ping") < 4:
                seen += await anext(lines) + "\n"
        assert seen.startswith("event: message_start\n")
        engine.say(submitted.id, *plain.encode("ok"), 2, finish="stop")
        rest = "\n".join([line async for line in lines])
    assert [event["type"] for event in events_of(seen + rest)][-1] == "message_stop"


async def test_a_client_that_leaves_ends_its_sequence(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mlxserve.api")
    engine.script = None
    body = {"model": "x", "max_tokens": 50, "messages": HI}
    async with http.stream("POST", "/v1/messages", json=body | {"stream": True}) as answer:
        submitted = await engine.submitted.get()
        engine.say(submitted.id, *plain.encode("and so"))
        async for line in answer.aiter_lines():
            if "text_delta" in line:
                break
    assert await asyncio.wait_for(engine.cancelled.get(), 5) == submitted.id
    asking = asyncio.create_task(http.post("/v1/messages", json=body))
    submitted = await engine.submitted.get()
    asking.cancel()
    assert await asyncio.wait_for(engine.cancelled.get(), 5) == submitted.id
    assert engine.client.open_sequences == 0
    assert "status=499" in caplog.text


@pytest.mark.parametrize("stream", [False, True])
async def test_what_fails_midway_is_an_error_in_anthropics_shape(
    claude: AsyncAnthropic, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture, stream: bool
) -> None:
    engine.script = None
    asking = asyncio.create_task(_text(claude, stream))
    engine.client.receive(messages.Failed((await engine.submitted.get()).id, "no memory for its cache"))
    with pytest.raises(anthropic.APIStatusError, match="no memory for its cache") as raised:
        await asking
    assert raised.value.type == "api_error"
    no_token: Any = ["not a token"]
    engine.script = no_token
    with pytest.raises(anthropic.APIStatusError, match="its log says why") as raised:
        await _text(claude, stream)
    assert raised.value.type == "api_error"
    engine.script = None
    asking = asyncio.create_task(_text(claude, stream))
    await engine.submitted.get()
    while engine.submitted.qsize():
        await engine.submitted.get()
    engine.client.close("rank 1 fell silent")
    with pytest.raises(anthropic.APIStatusError, match="rank 1 fell silent") as raised:
        await asking
    assert raised.value.type == "overloaded_error"
    with pytest.raises(anthropic.ServiceUnavailableError) as refused:
        await _text(claude, stream)
    assert refused.value.response.headers["retry-after"]
    assert refused.value.type == "overloaded_error"


async def test_each_answer_is_one_line_in_the_log_without_its_text(
    claude: AsyncAnthropic, engine: ScriptedEngine, plain: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mlxserve.api")
    engine.script = plain.encode("Secret")
    for stream in (False, True):
        assert await _text(claude, stream) == "Secret"
    lines = [record.getMessage() for record in caplog.records if record.name == "mlxserve.api"]
    assert len(lines) == 2
    assert all("/v1/messages" in line and "status=200" in line and "answer=msg_" in line for line in lines)
    assert "Secret" not in caplog.text


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a stream; the name of each is that of its data."""
    events = []
    for lines in text.split("\n\n"):
        if lines and not lines.startswith(":"):
            name, data = lines.strip("\n").split("\n")
            events.append(json.loads(data.removeprefix("data: ")))
            assert name == f"event: {events[-1]['type']}"
    return events


async def _text(claude: AsyncAnthropic, stream: bool) -> str:
    if stream:
        async with claude.messages.stream(model="x", max_tokens=50, messages=HI) as answer:
            return await answer.get_final_text()
    whole = await claude.messages.create(model="x", max_tokens=50, messages=HI)
    return "".join(block.text for block in whole.content if block.type == "text")
