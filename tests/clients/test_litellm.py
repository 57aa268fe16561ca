"""litellm, as a client of OpenAI's API and of Anthropic's."""

from __future__ import annotations

import pytest

from tests.clients.conftest import Run, Told


@pytest.fixture(scope="module")
def told(run: Run) -> Told:
    return run("ask_litellm.py")


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_streamed_and_whole_answers_are_equal(told: Told, provider: str) -> None:
    answer = told[provider]["whole"]
    assert answer["text"] == "The capital of France is Paris."
    assert answer["tokens"] == 8
    assert answer["finish_reason"] == "stop"
    assert told[provider]["streamed"] == answer


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_a_forced_call_is_one(told: Told, provider: str) -> None:
    answer = told[provider]["call"]
    [[name, arguments]] = answer["calls"]
    assert name == "time"
    assert arguments["city"] in ("Paris", "Rome")
    assert answer["finish_reason"] == "tool_calls"
    assert told[provider]["streamed_call"]["calls"] == answer["calls"]
