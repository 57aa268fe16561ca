"""OpenAI's official client for Node."""

from __future__ import annotations

import json

import pytest

from tests.clients.conftest import Run, Told

ANSWER = "The capital of France is Paris."


@pytest.fixture(scope="module")
def told(run: Run) -> Told:
    return run("ask_openai.mjs")


def test_streamed_and_whole_chats_are_equal(told: Told) -> None:
    assert told["chat"] == {"whole": ANSWER, "streamed": ANSWER, "pieces": ANSWER, "tokens": [8, 8]}


def test_streamed_and_whole_calls_are_equal(told: Told) -> None:
    [whole], [streamed] = told["tools"]
    assert streamed == whole
    assert whole["name"] == "time"
    assert json.loads(whole["arguments"])["city"] in ("Paris", "Rome")


def test_streamed_and_whole_responses_are_equal_and_can_be_gone_on_from(told: Told) -> None:
    assert told["responses"]["whole"] == told["responses"]["streamed"] == ANSWER
    assert told["responses"]["next"]


def test_what_cannot_be_asked_is_a_bad_request(told: Told) -> None:
    assert told["refusal"] == {"kind": "BadRequestError", "status": 400, "type": "invalid_request_error"}
