"""LangChain's ChatOpenAI."""

from __future__ import annotations

import pytest

from tests.clients.conftest import Run, Told


@pytest.fixture(scope="module")
def told(run: Run) -> Told:
    return run("ask_langchain.py")


def test_streamed_and_whole_answers_are_equal(told: Told) -> None:
    whole = told["text"]["whole"]
    assert (whole["text"], whole["finish_reason"], whole["tokens"]) == ("The capital of France is Paris.", "stop", 8)
    assert told["text"]["streamed"] == whole
    assert told["text"]["pieces"] > 2


def test_a_tool_is_called_and_its_result_answered(told: Told) -> None:
    [[name, arguments]] = told["call"]["whole"]["calls"]
    assert name == "time"
    assert arguments["city"] in ("Paris", "Rome")
    assert told["call"]["streamed"]["calls"] == told["call"]["whole"]["calls"]
    assert told["call"]["after"]


def test_a_structured_output_is_parsed(told: Told) -> None:
    assert len(told["dishes"]) == 2
    for dish in told["dishes"]:
        assert dish["name"] in ("soup", "salad", "bread")
        assert isinstance(dish["price"], int)
