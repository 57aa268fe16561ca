"""/v1/completions by the official client for Python."""

from __future__ import annotations

from typing import Any

import openai

from tests.clients.both import both

PROMPT = "The capital of France is"


def test_streamed_and_whole_texts_are_equal(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "demo", "prompt": [PROMPT, "One, two,"], "temperature": 0, "max_tokens": 6}

    def whole() -> list[str]:
        return [choice.text for choice in client.completions.create(**asked).choices]

    def streamed() -> list[str]:
        texts = ["", ""]
        for chunk in client.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        return texts

    first, second = both(whole, streamed)
    assert first == second
    assert "Paris" in first[0]
    assert "three" in first[1]


def test_an_echo_tells_how_likely_the_prompt_is(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt=PROMPT, echo=True, logprobs=1, max_tokens=1, temperature=0)
    [choice] = answer.choices
    told = choice.logprobs
    assert choice.text.startswith(PROMPT)
    assert "".join(told.tokens) == choice.text
    assert told.token_logprobs[0] is None
    assert all(logprob <= 0 for logprob in told.token_logprobs[1:])
    assert told.text_offset == [len("".join(told.tokens[:index])) for index in range(len(told.tokens))]
    assert answer.usage.completion_tokens == 1
    assert answer.usage.prompt_tokens == len(told.tokens) - 1


def test_nothing_need_be_written_to_learn_how_likely_a_prompt_is(client: openai.OpenAI) -> None:
    answer = client.completions.create(model="demo", prompt=PROMPT, echo=True, logprobs=0, max_tokens=0)
    assert answer.choices[0].text == PROMPT
    assert answer.usage.completion_tokens == 0
