"""/v1/messages by Anthropic's official client for Python."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from tests.clients.both import both

FRANCE: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
ROME: list[Any] = [{"role": "user", "content": "What time is it in Rome?"}]
TOOL: dict[str, Any] = {
    "name": "time",
    "description": "The time of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


LIKELIEST = {"temperature": 0}
"""Sent beside what the package names: it knows no temperature any more."""


def of_both(claude: anthropic.Anthropic, **asked: Any) -> tuple[Any, Any]:
    def streamed() -> Any:
        with claude.messages.stream(model="demo", extra_body=LIKELIEST, **asked) as events:
            return events.get_final_message()

    return both(lambda: claude.messages.create(model="demo", extra_body=LIKELIEST, **asked), streamed)


def test_streamed_and_whole_answers_are_equal(claude: anthropic.Anthropic) -> None:
    whole, streamed = of_both(claude, messages=FRANCE, max_tokens=20)
    assert whole.content[0].text == streamed.content[0].text == "The capital of France is Paris."
    assert whole.stop_reason == streamed.stop_reason == "end_turn"
    assert whole.usage.output_tokens == streamed.usage.output_tokens == 8
    assert whole.id != streamed.id


def test_the_text_arrives_in_pieces(claude: anthropic.Anthropic) -> None:
    with claude.messages.stream(model="demo", messages=FRANCE, max_tokens=20, extra_body=LIKELIEST) as events:
        pieces = list(events.text_stream)
    assert "".join(pieces) == "The capital of France is Paris."
    assert len(pieces) > 1


def test_a_stop_sequence_is_told_and_not_shown(claude: anthropic.Anthropic) -> None:
    for answer in of_both(claude, messages=FRANCE, max_tokens=20, stop_sequences=["nce is"]):
        assert answer.content[0].text == "The capital of Fra"
        assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "nce is")


def test_a_tool_is_called_and_its_result_answered(claude: anthropic.Anthropic) -> None:
    forced: dict[str, Any] = {"type": "any", "disable_parallel_tool_use": True}
    whole, streamed = of_both(claude, messages=ROME, tools=[TOOL], tool_choice=forced, max_tokens=40)
    [call], [other] = whole.content, streamed.content
    assert (call.type, call.name, call.input) == (other.type, other.name, other.input)
    assert call.name == "time"
    assert call.input["city"] in ("Paris", "Rome")
    assert whole.stop_reason == streamed.stop_reason == "tool_use"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "It is noon."}
    answer = claude.messages.create(
        model="demo",
        messages=[*ROME, {"role": "assistant", "content": whole.content}, {"role": "user", "content": [result]}],
        tools=[TOOL],
        tool_choice={"type": "none"},
        max_tokens=8,
    )
    assert [block.type for block in answer.content] == ["text"]


def test_the_tokens_counted_are_those_that_are_read(claude: anthropic.Anthropic) -> None:
    asked: dict[str, Any] = {"model": "demo", "messages": FRANCE, "system": "Answer in one word."}
    counted = claude.messages.count_tokens(**asked).input_tokens
    used = claude.messages.create(**asked, max_tokens=1).usage
    assert counted == used.input_tokens + (used.cache_read_input_tokens or 0)


def test_what_cannot_be_asked_is_a_bad_request_in_its_own_shape(claude: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError) as refused:
        claude.messages.create(model="demo", messages=FRANCE, max_tokens=0)
    assert refused.value.body["error"]["type"] == "invalid_request_error"
