"""The AI SDK, as a client of chat completions and of responses."""

from __future__ import annotations

import pytest

from tests.clients.conftest import Run, Told

PROVIDERS = pytest.mark.parametrize("provider", ["compatible", "responses"])


@pytest.fixture(scope="module")
def told(run: Run) -> Told:
    return run("ask_ai_sdk.mjs")


@PROVIDERS
def test_streamed_and_whole_texts_are_equal(told: Told, provider: str) -> None:
    assert told[provider]["text"] == {
        "texts": ["The capital of France is Paris."] * 2,
        "reasons": ["stop"] * 2,
        "tokens": [8] * 2,
    }


@PROVIDERS
def test_streamed_and_whole_objects_are_equal_and_fit_the_schema(told: Told, provider: str) -> None:
    whole, streamed = told[provider]["objects"]
    assert streamed == whole
    assert whole["name"] in ("soup", "salad", "bread")
    assert isinstance(whole["price"], int)


@PROVIDERS
def test_streamed_and_whole_calls_are_equal_and_fit_the_tool(told: Told, provider: str) -> None:
    whole, streamed = told[provider]["calls"]
    assert streamed == whole
    assert whole
    for call in whole:
        assert call["name"] == "time"
        assert call["input"]["city"] in ("Paris", "Rome")
