"""/v1/chat/completions by the official client for Python."""

from __future__ import annotations

import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.clients.both import both, chat_both, said

FRANCE = [{"role": "user", "content": "What is the capital of France?"}]
STORY = [{"role": "user", "content": "Tell me a story."}]


class Dish(BaseModel):
    name: Literal["soup", "salad", "bread"]
    price: int


class Weather(BaseModel):
    """The weather of a city."""

    city: Literal["Paris", "Rome"]


class Time(BaseModel):
    """The time of a city."""

    city: Literal["Paris", "Rome"]


TOOLS = [openai.pydantic_function_tool(tool) for tool in (Weather, Time)]
NAMED = {"type": "function", "function": {"name": "Time"}}


def test_streamed_and_whole_answers_are_equal(client: openai.OpenAI) -> None:
    whole, streamed = chat_both(client, model="demo", messages=FRANCE, temperature=0, max_tokens=20)
    assert said(whole.choices[0].message) == said(streamed.choices[0].message)
    assert whole.choices[0].message.content == "The capital of France is Paris."
    assert whole.choices[0].finish_reason == streamed.choices[0].finish_reason == "stop"
    assert whole.id != streamed.id
    assert whole.id.startswith("chatcmpl-")
    assert whole.model == streamed.model == "demo"
    assert whole.system_fingerprint == streamed.system_fingerprint
    assert whole.usage is not None
    assert streamed.usage is not None
    assert whole.usage.completion_tokens == streamed.usage.completion_tokens == 8
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 8


def test_seeded_answers_differ_among_themselves_and_come_again(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "demo", "messages": STORY, "n": 4, "seed": 7, "temperature": 1, "max_tokens": 12}
    whole, streamed = chat_both(client, **asked)
    texts = [choice.message.content for choice in whole.choices]
    assert len(set(texts)) == 4
    assert texts == [choice.message.content for choice in streamed.choices]
    assert [choice.index for choice in streamed.choices] == [0, 1, 2, 3]


def test_log_probabilities_name_each_token_and_its_rivals(client: openai.OpenAI) -> None:
    whole, streamed = chat_both(
        client, model="demo", messages=FRANCE, temperature=0, max_tokens=20, logprobs=True, top_logprobs=3
    )
    tokens = whole.choices[0].logprobs.content
    assert "".join(token.token for token in tokens) == whole.choices[0].message.content
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == whole.choices[0].message.content
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert (token.top_logprobs[0].token, token.top_logprobs[0].logprob) == (token.token, token.logprob)
    told = [token.token for token in streamed.choices[0].logprobs.content]
    assert told == [token.token for token in tokens]


@pytest.mark.parametrize("stop", [" Paris", [" is", "Lyon"], "nce is Par"])
def test_a_stop_string_is_never_shown(client: openai.OpenAI, stop: Any) -> None:
    whole, streamed = chat_both(client, model="demo", messages=FRANCE, temperature=0, max_tokens=20, stop=stop)
    text = whole.choices[0].message.content
    found = next(one for one in ([stop] if isinstance(stop, str) else stop) if one in FULL)
    assert text == streamed.choices[0].message.content == FULL.partition(found)[0]
    assert whole.choices[0].finish_reason == streamed.choices[0].finish_reason == "stop"


FULL = "The capital of France is Paris."


def test_a_model_of_pydantic_is_parsed(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "demo",
        "messages": [{"role": "user", "content": "A soup, please."}],
        "response_format": Dish,
        "temperature": 0,
        "max_tokens": 60,
    }

    def streamed() -> Any:
        with client.chat.completions.stream(**asked) as events:
            return events.get_final_completion()

    first, second = both(lambda: client.chat.completions.parse(**asked), streamed)
    dish = first.choices[0].message.parsed
    assert isinstance(dish, Dish)
    assert second.choices[0].message.parsed == dish


@pytest.mark.parametrize(("choice", "names"), [("required", {"Weather", "Time"}), (NAMED, {"Time"})])
def test_forced_calls_fit_their_tools(client: openai.OpenAI, choice: Any, names: set[str]) -> None:
    whole, streamed = chat_both(
        client,
        model="demo",
        messages=[{"role": "user", "content": "What is the weather in Rome?"}],
        tools=TOOLS,
        tool_choice=choice,
        parallel_tool_calls=False,
        temperature=0,
        max_tokens=60,
    )
    assert said(whole.choices[0].message) == said(streamed.choices[0].message)
    assert whole.choices[0].finish_reason == streamed.choices[0].finish_reason == "tool_calls"
    [call] = whole.choices[0].message.tool_calls
    assert call.function.name in names
    {"Weather": Weather, "Time": Time}[call.function.name].model_validate_json(call.function.arguments)
    assert call.id != streamed.choices[0].message.tool_calls[0].id


def test_a_call_of_the_models_own_accord_is_told_from_its_text(client: openai.OpenAI) -> None:
    wanted = '{"name": "Time", "arguments": {"city": "Rome"}}'
    whole, streamed = chat_both(
        client,
        model="demo",
        messages=[{"role": "user", "content": "What time is it in Rome?"}],
        tools=TOOLS,
        tool_choice="auto",
        temperature=0,
        max_tokens=60,
        extra_body={"structured_outputs": {"choice": [f"Now.<tool_call>{wanted}</tool_call>"]}},
    )
    assert said(whole.choices[0].message) == said(streamed.choices[0].message)
    assert said(whole.choices[0].message) == ("Now.", [("Time", '{"city": "Rome"}')])
    assert whole.choices[0].finish_reason == streamed.choices[0].finish_reason == "tool_calls"


def test_the_result_of_a_call_is_answered(client: openai.OpenAI) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "Time", "arguments": '{"city": "Rome"}'}}
    messages: list[Any] = [
        {"role": "user", "content": "What time is it in Rome?"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "It is noon."},
    ]
    answer = client.chat.completions.create(
        model="demo", messages=messages, tools=TOOLS, tool_choice="none", temperature=0, max_tokens=8
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None


def test_an_answer_in_json_is_an_object(client: openai.OpenAI) -> None:
    whole, streamed = chat_both(
        client,
        model="demo",
        messages=[{"role": "user", "content": "A user, in JSON."}],
        response_format={"type": "json_object"},
        temperature=1,
        seed=5,
        max_tokens=30,
    )
    assert isinstance(json.loads(whole.choices[0].message.content), dict)
    assert whole.choices[0].message.content == streamed.choices[0].message.content


def test_what_cannot_be_asked_is_a_bad_request_that_names_the_field(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="demo", messages=FRANCE, top_logprobs=3)
    assert refused.value.param == "top_logprobs"


def test_the_model_is_listed_and_found(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").object == "model"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-5")
