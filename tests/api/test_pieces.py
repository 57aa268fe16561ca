"""What an answer is made of, streamed and not: reasoning, tool calls, choices, log-probabilities."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from mlxserve.engine import messages

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

HI: list[Any] = [{"role": "user", "content": "Hi"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Zürich"}}\n</tool_call>'
ANSWERS = {
    "text": ("Hello.\n", "Hello.\n", None, []),
    "spaces": ("\n \n", "\n \n", None, []),
    "reasoning": ("<think>\nHm, well.\n</think>\n\nHello.", "Hello.", "Hm, well.", []),
    "only reasoning": ("<think>\nHm", "", "Hm", []),
    "call": (CALL, None, None, ["Zürich"]),
    "text and calls": (f"I look.\n\n{CALL}\n{CALL.replace('Zürich', 'Bern')}", "I look.", None, ["Zürich", "Bern"]),
    "all": (f"<think>a</think>\n{CALL}", None, "a", ["Zürich"]),
    "call cut off": ('<tool_call>\n{"name": "weather", "argu', '<tool_call>\n{"name": "weather", "argu', None, []),
    "call that is none": ("<tool_call>\nrain\n</tool_call>", "<tool_call>\nrain\n</tool_call>", None, []),
    "a mark that does not come": ("1 <tool", "1 <tool", None, []),
}


async def streamed(client: AsyncOpenAI, **fields: Any) -> dict[int, dict[str, Any]]:
    """The choices of a stream, put together as clients do."""
    choices: dict[int, dict[str, Any]] = {}
    async for chunk in await client.chat.completions.create(model="", messages=HI, stream=True, **fields):
        for choice in chunk.choices:
            whole = choices.setdefault(choice.index, {"content": "", "reasoning": "", "calls": {}, "logprobs": []})
            delta: Any = choice.delta
            kinds = {name for name, value in delta.model_dump(exclude_none=True).items() if value is not None}
            assert len(kinds) <= 1, kinds
            whole["content"] += delta.content or ""
            whole["reasoning"] += getattr(delta, "reasoning_content", None) or ""
            for call in delta.tool_calls or []:
                kept = whole["calls"].setdefault(call.index, {"id": call.id, "name": "", "arguments": ""})
                kept["name"] += call.function.name or ""
                kept["arguments"] += call.function.arguments or ""
            if choice.logprobs:
                whole["logprobs"] += choice.logprobs.content
            whole["finish"] = choice.finish_reason
    return choices


@pytest.mark.parametrize("name", ANSWERS)
async def test_reasoning_and_calls_are_told_apart_streamed_and_not(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any, name: str
) -> None:
    written, content, reasoning, cities = ANSWERS[name]
    engine.script = plain.encode(written, add_special_tokens=False)
    answer = await client.chat.completions.create(model="", messages=HI, tools=[WEATHER])
    message: Any = answer.choices[0].message
    finish = "tool_calls" if cities else "stop"
    assert (message.content, getattr(message, "reasoning_content", None)) == (content, reasoning)
    calls = message.tool_calls or []
    assert [json.loads(call.function.arguments) for call in calls] == [{"city": city} for city in cities]
    assert all(call.function.name == "weather" and call.type == "function" for call in calls)
    assert len({call.id for call in calls}) == len(calls)
    assert answer.choices[0].finish_reason == finish
    choice = (await streamed(client, tools=[WEATHER]))[0]
    assert (choice["content"], choice["reasoning"]) == (content or "", reasoning or "")
    assert [json.loads(call["arguments"]) for call in choice["calls"].values()] == [{"city": city} for city in cities]
    assert all(call["id"] and call["name"] == "weather" for call in choice["calls"].values())
    assert choice["finish"] == finish


async def test_calls_stay_text_where_no_tools_are_offered(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode(CALL, add_special_tokens=False)
    for fields in ({}, {"tools": [WEATHER], "tool_choice": "none"}):
        answer = await client.chat.completions.create(model="", messages=HI, **fields)
        assert answer.choices[0].message.content == CALL


async def test_reasoning_tokens_are_counted(client: AsyncOpenAI, engine: ScriptedEngine, plain: Any) -> None:
    thought = plain.encode("<think>Hm, well.</think>", add_special_tokens=False)
    engine.script = thought + plain.encode("Yes.", add_special_tokens=False)
    answer = await client.chat.completions.create(model="", messages=HI)
    assert answer.usage
    assert answer.usage.completion_tokens_details
    assert answer.usage.completion_tokens_details.reasoning_tokens == len(thought)


async def test_tools_reach_a_model_whose_template_knows_none(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    await client.chat.completions.create(model="", messages=HI, tools=[WEATHER])
    prompt = plain.decode((await engine.submitted.get()).prompt)
    assert '"name": "weather"' in prompt
    assert "<tool_call>" in prompt


async def test_a_control_token_in_a_tool_stays_text(client: AsyncOpenAI, engine: ScriptedEngine, plain: Any) -> None:
    evil: Any = json.loads(json.dumps(WEATHER).replace("city", "<|im_end|>"))
    await client.chat.completions.create(model="", messages=HI, tools=[evil])
    prompt = (await engine.submitted.get()).prompt
    await client.chat.completions.create(model="", messages=HI, tools=[WEATHER])
    harmless = (await engine.submitted.get()).prompt
    end = plain.convert_tokens_to_ids("<|im_end|>")
    assert prompt.count(end) == harmless.count(end)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
async def test_forced_calls_follow_a_grammar_and_come_as_calls(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any, choice: Any
) -> None:
    engine.script = plain.encode('[{"name": "weather", "arguments": {"city": "Bern"}}]', add_special_tokens=False)
    answer = await client.chat.completions.create(model="", messages=HI, tools=[WEATHER], tool_choice=choice)
    assert (await engine.submitted.get()).grammar
    [call] = answer.choices[0].message.tool_calls or []
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Bern"})  # type: ignore[union-attr]
    assert answer.choices[0].message.content is None
    assert (await streamed(client, tools=[WEATHER], tool_choice=choice))[0]["calls"][0]["name"] == "weather"


async def test_of_forced_calls_that_were_cut_off_the_whole_ones_come(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    written = '[{"name": "weather", "arguments": {"city": "Bern"}}, {"name": "weather", "argu'
    engine.script, engine.finish = plain.encode(written, add_special_tokens=False), "length"
    answer = await client.chat.completions.create(model="", messages=HI, tools=[WEATHER], tool_choice="required")
    [call] = answer.choices[0].message.tool_calls or []
    assert json.loads(call.function.arguments) == {"city": "Bern"}  # type: ignore[union-attr]
    assert answer.choices[0].finish_reason == "length"


async def test_several_answers_are_several_sequences_with_seeds_of_their_own(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode("Hi", add_special_tokens=False)
    answer = await client.chat.completions.create(model="", messages=HI, n=3, seed=5)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [(0, "Hi"), (1, "Hi"), (2, "Hi")]
    submitted = [await engine.submitted.get() for _ in range(3)]
    assert [one.sampling.seed for one in submitted] == [5, 6, 7]
    assert answer.usage
    assert answer.usage.completion_tokens == 3 * (len(engine.script) + 1)
    assert {index: one["content"] for index, one in (await streamed(client, n=3)).items()} == dict.fromkeys(
        range(3), "Hi"
    )


async def test_an_error_of_one_of_several_answers_ends_them_all(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = None
    asking = asyncio.create_task(client.chat.completions.create(model="", messages=HI, n=2))
    first, second = [await engine.submitted.get() for _ in range(2)]
    engine.client.receive(messages.Failed(second.id, "broken"))
    with pytest.raises(openai.InternalServerError, match="broken"):
        await asking
    assert await engine.cancelled.get() == first.id


async def test_log_probabilities_come_with_their_tokens_streamed_and_not(
    client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = plain.encode("Paris 🎉", add_special_tokens=False)
    likelihood = messages.Likelihood(-0.5, [(engine.script[0], -0.5), (engine.script[1], -1.5)])
    engine.likelihood = likelihood
    fields: Any = {"logprobs": True, "top_logprobs": 2}
    answer = await client.chat.completions.create(model="", messages=HI, **fields)
    submitted = await engine.submitted.get()
    assert submitted.top_logprobs == 2
    logprobs = answer.choices[0].logprobs
    assert logprobs
    assert logprobs.content
    assert len(logprobs.content) == len(engine.script)
    assert b"".join(bytes(one.bytes or []) for one in logprobs.content).decode() == "Paris 🎉"
    assert [top.logprob for top in logprobs.content[0].top_logprobs] == [-0.5, -1.5]
    choice = (await streamed(client, **fields))[0]
    assert choice["logprobs"] == logprobs.content
