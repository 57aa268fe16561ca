"""/v1/responses by the official client for Python."""

from __future__ import annotations

from typing import Any, Literal

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from tests.clients.both import both

FRANCE = "What is the capital of France?"


class Dish(BaseModel):
    name: Literal["soup", "salad", "bread"]
    price: int


TOOL: dict[str, Any] = {
    "type": "function",
    "name": "time",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def of_both(client: openai.OpenAI, **asked: Any) -> tuple[Response, list[Any]]:
    """The answer whole, and the events of the same streamed."""

    def streamed() -> list[Any]:
        with client.responses.stream(model="demo", **asked) as events:
            return list(events)

    return both(lambda: client.responses.create(model="demo", **asked), streamed)


def test_streamed_and_whole_answers_are_equal(client: openai.OpenAI) -> None:
    whole, events = of_both(client, input=FRANCE, temperature=0, max_output_tokens=20)
    streamed = events[-1].response
    assert whole.output_text == streamed.output_text == "The capital of France is Paris."
    assert whole.status == streamed.status == "completed"
    assert whole.usage.output_tokens == streamed.usage.output_tokens == 8
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == whole.output_text
    assert len(deltas) > 1


def test_an_answer_that_is_cut_off_is_incomplete(client: openai.OpenAI) -> None:
    whole, events = of_both(client, input=FRANCE, temperature=0, max_output_tokens=3)
    assert events[-1].type == "response.incomplete"
    for answer in (whole, events[-1].response):
        assert answer.output_text == "The capital of"
        assert answer.status == "incomplete"
        assert answer.incomplete_details.reason == "max_output_tokens"


def test_a_conversation_goes_on_from_an_answer_that_was_kept(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "demo", "temperature": 0, "max_output_tokens": 8}
    first = client.responses.create(input=FRANCE, **asked)
    second = client.responses.create(input="And of Italy?", previous_response_id=first.id, **asked)
    said = [{"role": "user", "content": FRANCE}, {"role": "assistant", "content": first.output_text}]
    again = client.responses.create(input=[*said, {"role": "user", "content": "And of Italy?"}], **asked)
    assert second.output_text == again.output_text
    assert second.usage.input_tokens == again.usage.input_tokens
    assert client.responses.retrieve(second.id).output_text == second.output_text
    items = client.responses.input_items.list(second.id, order="asc")
    assert [item.role for item in items] == ["user", "assistant", "user"]
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)


def test_a_model_of_pydantic_is_parsed(client: openai.OpenAI) -> None:
    answer = client.responses.parse(
        model="demo", input="A soup, please.", text_format=Dish, temperature=0, max_output_tokens=40
    )
    assert isinstance(answer.output_parsed, Dish)


def test_forced_calls_fit_their_tool_and_their_outputs_are_answered(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"tools": [TOOL], "temperature": 0, "max_output_tokens": 40}
    forced: dict[str, Any] = asked | {"input": "What time is it in Rome?", "tool_choice": "required"}
    whole, events = of_both(client, parallel_tool_calls=False, **forced)
    [call], [other] = whole.output, events[-1].response.output
    assert (call.type, call.name) == (other.type, other.name) == ("function_call", "time")
    assert call.arguments == other.arguments
    assert call.arguments in ('{"city": "Paris"}', '{"city": "Rome"}')
    assert call.call_id != other.call_id
    assert "response.function_call_arguments.done" in [event.type for event in events]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "It is noon."}
    answer = client.responses.create(
        model="demo",
        previous_response_id=whole.id,
        input=[output],
        **asked | {"tool_choice": "none", "max_output_tokens": 8},
    )
    assert answer.output_text
