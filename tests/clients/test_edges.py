"""Where streamed text and whole text are most likely to part: characters in several tokens, stops, begun answers."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.clients.both import both, chat_both, said

FRANCE: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
FULL = "The capital of France is Paris."


def pieces_of(client: openai.OpenAI, **asked: Any) -> list[str]:
    chunks = client.chat.completions.create(model="demo", messages=FRANCE, stream=True, **asked)
    return [piece for chunk in chunks for choice in chunk.choices if (piece := choice.delta.content)]


def written(text: str) -> dict[str, Any]:
    """Makes the answer `text`."""
    return {"extra_body": {"structured_outputs": {"choice": [text]}}, "max_tokens": 60}


@pytest.mark.parametrize("seed", [1, 2])
def test_characters_that_are_split_over_tokens_arrive_whole(client: openai.OpenAI, seed: int) -> None:
    asked: dict[str, Any] = {
        "extra_body": {"structured_outputs": {"regex": "[🎉日本é🦜]{6}"}},
        "temperature": 1,
        "seed": seed,
        "max_tokens": 40,
    }
    whole, pieces = both(
        lambda: client.chat.completions.create(model="demo", messages=FRANCE, logprobs=True, **asked),
        lambda: pieces_of(client, **asked),
    )
    text = whole.choices[0].message.content
    assert len(text) == 6
    assert set(text) <= set("🎉日本é🦜")
    assert "".join(pieces) == text
    assert len(pieces) > 1
    tokens = whole.choices[0].logprobs.content
    assert len(tokens) > 6
    assert b"".join(bytes(token.bytes) for token in tokens).decode() == text


def test_a_character_that_the_bound_cuts_is_the_same_streamed_and_whole(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"extra_body": {"logit_bias": {str(token): 100 for token in bird(client)[:1]}}}
    asked |= {"temperature": 0, "max_tokens": 1}
    whole, pieces = both(
        lambda: client.chat.completions.create(model="demo", messages=FRANCE, **asked),
        lambda: pieces_of(client, **asked),
    )
    assert "".join(pieces) == (whole.choices[0].message.content or "")


def bird(client: openai.OpenAI) -> list[int]:
    """The tokens of one character."""
    tokens = client.post("/tokenize", body={"content": "🦜", "add_special": False}, cast_to=dict[str, Any])["tokens"]
    assert len(tokens) > 1
    return tokens


@pytest.mark.parametrize("stop", ["日本", "🦜", "本🎉"])
def test_a_stop_string_is_found_among_split_characters(client: openai.OpenAI, stop: str) -> None:
    text = "é日🎉日本🎉🦜é"
    whole, streamed = chat_both(client, model="demo", messages=FRANCE, stop=stop, temperature=0, **written(text))
    assert whole.choices[0].message.content == streamed.choices[0].message.content == text.partition(stop)[0]
    assert whole.choices[0].finish_reason == streamed.choices[0].finish_reason == "stop"


def test_what_only_begins_like_a_stop_string_is_shown(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"temperature": 0, "max_tokens": 20, "stop": ["is Paris!", "Paris.\n", " of Francesca"]}
    whole, pieces = both(
        lambda: client.chat.completions.create(model="demo", messages=FRANCE, **asked),
        lambda: pieces_of(client, **asked),
    )
    assert "".join(pieces) == whole.choices[0].message.content == FULL


@pytest.mark.parametrize("begun", ["The capital of", "The capital of France is Paris", "The"])
def test_an_answer_that_was_begun_is_gone_on_with(client: openai.OpenAI, begun: str) -> None:
    messages = [*FRANCE, {"role": "assistant", "content": begun}]
    whole, streamed = chat_both(client, model="demo", messages=messages, temperature=0, max_tokens=20)
    assert said(whole.choices[0].message) == said(streamed.choices[0].message)
    assert begun + whole.choices[0].message.content == FULL


def test_a_developers_message_is_the_systems(client: openai.OpenAI) -> None:
    order = "Answer in German."
    answers = [
        client.chat.completions.create(
            model="demo", messages=[{"role": role, "content": order}, *FRANCE], temperature=0, max_tokens=6
        )
        for role in ("system", "developer")
    ]
    assert answers[0].choices[0].message.content == answers[1].choices[0].message.content
    assert answers[0].usage.prompt_tokens == answers[1].usage.prompt_tokens


@pytest.mark.parametrize("effort", ["none", "low", "high"])
def test_an_effort_changes_nothing_for_a_model_that_cannot_reason(client: openai.OpenAI, effort: Any) -> None:
    whole, streamed = chat_both(
        client, model="demo", messages=FRANCE, reasoning_effort=effort, temperature=0, max_tokens=20
    )
    assert whole.choices[0].message.content == streamed.choices[0].message.content == FULL
    assert whole.usage.completion_tokens_details.reasoning_tokens == 0


@pytest.mark.parametrize("mark", ["<tool_call>{", "a <tool_call> b</tool_call> c", "<tool"])
def test_a_mark_that_makes_no_call_is_text(client: openai.OpenAI, mark: str) -> None:
    tool = {"type": "function", "function": {"name": "time", "strict": True}}
    whole, streamed = chat_both(client, model="demo", messages=FRANCE, tools=[tool], temperature=0, **written(mark))
    assert said(whole.choices[0].message) == said(streamed.choices[0].message) == (mark, [])
