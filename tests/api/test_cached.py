"""Prompt tokens that were read before, as each API counts them."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from anthropic import AsyncAnthropic

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

HI: list[Any] = [{"role": "user", "content": "Hi"}]


@pytest.fixture(autouse=True)
def answer(engine: ScriptedEngine, plain: Any) -> None:
    engine.script = plain.encode("Yes")


async def test_a_chat_says_how_much_of_its_prompt_was_cached(
    client: openai.AsyncOpenAI, engine: ScriptedEngine
) -> None:
    engine.cached = [3]
    answer = await client.chat.completions.create(model="", messages=HI)
    prompt = len((await engine.submitted.get()).prompt)
    assert answer.usage
    assert answer.usage.prompt_tokens_details
    assert (answer.usage.prompt_tokens, answer.usage.prompt_tokens_details.cached_tokens) == (prompt, 3)
    timings: Any = answer.model_extra["timings"] if answer.model_extra else None
    assert (timings["cache_n"], timings["prompt_n"]) == (3, prompt - 3)


async def test_a_stream_says_so_too(client: openai.AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.cached = [3]
    options: Any = {"include_usage": True}
    stream = await client.chat.completions.create(model="", messages=HI, stream=True, stream_options=options)
    usage = [chunk.usage async for chunk in stream][-1]
    assert usage
    assert usage.prompt_tokens_details
    assert usage.prompt_tokens_details.cached_tokens == 3


async def test_of_a_prompt_with_several_answers_what_all_found_is_cached(
    client: openai.AsyncOpenAI, engine: ScriptedEngine
) -> None:
    engine.cached = [5, 3]
    usage = (await client.chat.completions.create(model="", messages=HI, n=2)).usage
    assert usage
    assert usage.prompt_tokens_details
    assert usage.prompt_tokens_details.cached_tokens == 3


async def test_completions_of_several_prompts_add_up(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.cached = [5, 3, 1, 2]
    body = {"prompt": ["one two three", "four five six"], "n": 2}
    usage = (await http.post("/v1/completions", json=body)).json()["usage"]
    assert usage["prompt_tokens_details"] == {"cached_tokens": 3 + 1}


async def test_a_response_says_so(client: openai.AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.cached = [3]
    usage = (await client.responses.create(model="", input="Hi")).usage
    assert usage
    assert usage.input_tokens_details.cached_tokens == 3
    assert usage.input_tokens == len((await engine.submitted.get()).prompt)


async def test_for_claude_what_was_cached_is_no_input(claude: AsyncAnthropic, engine: ScriptedEngine) -> None:
    engine.cached = [3, 3]
    fields: Any = {"model": "", "max_tokens": 50, "messages": HI}
    whole = await claude.messages.create(**fields)
    async with claude.messages.stream(**fields) as stream:
        streamed = await stream.get_final_message()
    prompt = len((await engine.submitted.get()).prompt)
    for usage in (whole.usage, streamed.usage):
        assert (usage.input_tokens, usage.cache_read_input_tokens) == (prompt - 3, 3)


@pytest.mark.parametrize("role", ["system", "developer"])
async def test_where_caches_cannot_be_cut_the_engine_is_told_where_the_system_prompt_ends(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any, role: str
) -> None:
    engine.become_ready(cuttable=False)
    system = {"role": role, "content": "You know the fox."}
    for question in ("What does it do?", "Over whom?"):
        await http.post("/v1/chat/completions", json={"messages": [system, {"role": "user", "content": question}]})
    first, second = [await engine.submitted.get() for _ in range(2)]
    [border] = first.borders
    assert second.borders == [border]
    assert first.prompt[:border] == second.prompt[:border]
    assert plain.decode(first.prompt[:border]) == "<|im_start|>system\nYou know the fox.<|im_end|>\n<|im_start|>user\n"


async def test_where_caches_can_be_cut_or_nothing_is_shared_no_border_is_told(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    system = {"role": "system", "content": "You know the fox."}
    await http.post("/v1/chat/completions", json={"messages": [system, *HI]})
    assert (await engine.submitted.get()).borders == []
    engine.become_ready(cuttable=False)
    await http.post("/v1/chat/completions", json={"messages": HI})
    assert (await engine.submitted.get()).borders == []
