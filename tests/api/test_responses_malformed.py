"""Requests to the Responses API that are wrong: 400 with the field to blame, and nothing of them reaches the engine."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxserve.api.errors import ApiError
from mlxserve.api.responses.request import ResponsesRequest, read_request
from mlxserve.api.responses.store import Store

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

FUNCTION = {"type": "function", "name": "f"}
CALL = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}


def _input(*items: Any) -> dict[str, Any]:
    return {"input": list(items)}


def _user(content: Any) -> dict[str, Any]:
    return _input({"role": "user", "content": content})


def _output(output: Any) -> dict[str, Any]:
    return _input(CALL, {"type": "function_call_output", "call_id": "1", "output": output})


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, "input"),
    "input null": ({"input": None}, "input"),
    "input empty": ({"input": []}, "input"),
    "input a number": ({"input": 5}, "input"),
    "input an object": ({"input": {"role": "user", "content": "Hi"}}, "input"),
    "item a string": (_input("Hi"), "input[0]"),
    "item null": (_input(None), "input[0]"),
    "item of no kind": (_input({"content": "Hi"}), "input[0].type"),
    "item of an unknown kind": (_input({"type": "telepathy"}), "input[0].type"),
    "item of a hosted kind": (_input({"type": "computer_call_output", "call_id": "1", "output": {}}), "input[0].type"),
    "item's type a number": (_input({"type": 5}), "input[0].type"),
    "no role": (_input({"type": "message", "content": "Hi"}), "input[0].role"),
    "unknown role": (_input({"role": "king", "content": "Hi"}), "input[0].role"),
    "no content": (_input({"role": "user"}), "input[0].content"),
    "content null": (_user(None), "input[0].content"),
    "content a number": (_user(5), "input[0].content"),
    "content an object": (_user({"type": "input_text", "text": "Hi"}), "input[0].content"),
    "part a string": (_user(["Hi"]), "input[0].content[0]"),
    "part without text": (_user([{"type": "input_text"}]), "input[0].content[0].text"),
    "image": (
        _user([{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "http://127.0.0.1:1/"}]),
        "input[0].content[1].type",
    ),
    "file": (_user([{"type": "input_file", "file_url": "http://127.0.0.1:1/"}]), "input[0].content[0].type"),
    "audio": (_user([{"type": "input_audio", "input_audio": {}}]), "input[0].content[0].type"),
    "image of a tool": (
        _output([{"type": "input_image", "image_url": "data:image/png;base64,"}]),
        "input[1].output[0].type",
    ),
    "output null": (_output(None), "input[1].output"),
    "output without a call": (_input({"type": "function_call_output", "call_id": "x", "output": "a"}), "input"),
    "output before its call": (
        _input({"type": "function_call_output", "call_id": "1", "output": "a"}, CALL),
        "input",
    ),
    "output of no call": (_input({"type": "function_call_output", "output": "a"}), "input[0].call_id"),
    "call without arguments": (_input({"type": "function_call", "call_id": "1", "name": "f"}), "input[0].arguments"),
    "call's arguments an object": (_input({**CALL, "arguments": {}}), "input[0].arguments"),
    "summary of a wrong kind": (_input({"type": "reasoning", "summary": [{"type": "x"}]}), "input[0].summary[0].type"),
    "only thoughts": (_input({"type": "reasoning", "summary": []}), "input"),
    "reference to nothing": (_input({"type": "item_reference", "id": "msg_0"}), "input[0].id"),
    "status unknown": (_input({"role": "user", "content": "a", "status": "done"}), "input[0].status"),
    "previous response unknown": ({"input": "Hi", "previous_response_id": "resp_0"}, "previous_response_id"),
    "previous response a number": ({"input": "Hi", "previous_response_id": 5}, "previous_response_id"),
    "background without store": ({"input": "Hi", "background": True, "store": False}, "background"),
    "conversation": ({"input": "Hi", "conversation": "conv_1"}, "conversation"),
    "prompt of OpenAI's": ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    "max_output_tokens zero": ({"input": "Hi", "max_output_tokens": 0}, "max_output_tokens"),
    "temperature too high": ({"input": "Hi", "temperature": 2.1}, "temperature"),
    "top_p zero": ({"input": "Hi", "top_p": 0}, "top_p"),
    "21 top_logprobs": ({"input": "Hi", "top_logprobs": 21}, "top_logprobs"),
    "truncation unknown": ({"input": "Hi", "truncation": "middle"}, "truncation"),
    "17 metadata": ({"input": "Hi", "metadata": {str(i): "" for i in range(17)}}, "metadata"),
    "metadata a number": ({"input": "Hi", "metadata": {"a": 1}}, "metadata[...]"),
    "metadata too long": ({"input": "Hi", "metadata": {"a": "x" * 513}}, "metadata[...]"),
    "logit_bias beyond the vocabulary": ({"input": "Hi", "logit_bias": {"99999": 1}}, "logit_bias"),
    "form unknown": ({"input": "Hi", "text": {"format": {"type": "yaml"}}}, "text.format.type"),
    "form without a schema": (
        {"input": "Hi", "text": {"format": {"type": "json_schema", "name": "x"}}},
        "text.format.schema",
    ),
    "form that cannot be guaranteed": (
        {"input": "Hi", "text": {"format": {"type": "json_schema", "name": "x", "schema": {"not": {}}}}},
        "text.format",
    ),
    "form that names an address": (
        {
            "input": "Hi",
            "text": {"format": {"type": "json_schema", "name": "x", "schema": {"$ref": "http://127.0.0.1:1/"}}},
        },
        "text.format",
    ),
    "deep form": (
        {"input": "Hi", "text": {"format": {"type": "json_schema", "name": "x", "schema": _deep(300)}}},
        "text",
    ),
    "verbosity unknown": ({"input": "Hi", "text": {"verbosity": "endless"}}, "text.verbosity"),
    "tools an object": ({"input": "Hi", "tools": FUNCTION}, "tools"),
    "tool a string": ({"input": "Hi", "tools": ["f"]}, "tools[0]"),
    "tool without a type": ({"input": "Hi", "tools": [FUNCTION, {"name": "f"}]}, "tools[1].type"),
    "tool's type a number": ({"input": "Hi", "tools": [{"type": 5}]}, "tools[0].type"),
    "tool as in chat": ({"input": "Hi", "tools": [{"type": "function", "function": FUNCTION}]}, "tools[0].name"),
    "tool's name empty": ({"input": "Hi", "tools": [{"type": "function", "name": ""}]}, "tools[0].name"),
    "parameters a list": ({"input": "Hi", "tools": [{**FUNCTION, "parameters": []}]}, "tools[0].parameters"),
    "deep parameters": ({"input": "Hi", "tools": [{**FUNCTION, "parameters": _deep(300)}]}, "tools[0]"),
    "namespace of a wrong tool": (
        {"input": "Hi", "tools": [{"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}]},
        "tools[0].tools[0].type",
    ),
    "parameters that cannot be guaranteed": (
        {
            "input": "Hi",
            "tools": [{**FUNCTION, "parameters": {"type": "array", "uniqueItems": True}}],
            "tool_choice": "required",
        },
        "tools",
    ),
    "choice without tools": ({"input": "Hi", "tool_choice": "required"}, "tool_choice"),
    "choice of a tool that is not there": (
        {"input": "Hi", "tools": [FUNCTION], "tool_choice": {"type": "function", "name": "g"}},
        "tool_choice",
    ),
    "choice of what cannot be offered": (
        {"input": "Hi", "tools": [FUNCTION], "tool_choice": {"type": "web_search"}},
        "tool_choice.type",
    ),
    "allowed tools that cannot be offered": (
        {
            "input": "Hi",
            "tools": [FUNCTION],
            "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]},
        },
        "tool_choice",
    ),
    "choice a word": ({"input": "Hi", "tools": [FUNCTION], "tool_choice": "maybe"}, "tool_choice"),
    "prompt over the context": ({"input": "word " * 5000}, "input"),
    "more items than context": (_input(*[{"role": "user", "content": ""}] * 1001), "input"),
}

BROKEN = {
    "empty": b"",
    "cut off": b'{"input":[',
    "an array": b"[]",
    "invalid utf-8": b'{"input":"\xff"}',
    "lone surrogate": b'{"input":"\\ud800"}',
    "deep item": b'{"input":[' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"]}",
    "deep unknown field": b'{"input":"Hi","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "two documents": b'{"input":"Hi"}{}',
}


@pytest.mark.parametrize("stream", [False, True])
async def test_malformed_requests_are_refused_in_openais_shape_and_the_server_serves_on(
    http: httpx.AsyncClient, engine: ScriptedEngine, stream: bool
) -> None:
    for name, (body, param) in MALFORMED.items():
        answer = await http.post("/v1/responses", json=body | {"stream": stream})
        assert answer.status_code == 400, (name, answer.text)
        error = answer.json()["error"]
        assert (error["type"], error["param"]) == ("invalid_request_error", param), (name, error)
        assert 10 < len(error["message"]) < 500, (name, error)
    assert engine.client.open_sequences == 0
    assert engine.submitted.empty()
    assert (await http.post("/v1/responses", json={"input": "Hi"})).status_code == 200


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/responses/input_tokens"])
async def test_what_is_no_json_object_is_refused(http: httpx.AsyncClient, path: str) -> None:
    for name, body in BROKEN.items():
        answer = await http.post(path, content=body)
        assert answer.status_code == 400, (name, answer.text)
        assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_each_field_refuses_what_it_cannot_be(http: httpx.AsyncClient) -> None:
    for field in ResponsesRequest.__struct_fields__:
        for value in (["\0", {}], {"type": []}, 10**30, -5, True, "\u2028", [["x"]]):
            answer = await http.post("/v1/responses", json={"input": "Hi", field: value})
            assert answer.status_code in (200, 400), (field, value, answer.text)
            if answer.status_code == 400:
                assert answer.json()["error"]["param"].startswith(field)
        assert answer.status_code == 400, field


@pytest.mark.parametrize("depth", [50, 90, 400, 900])
async def test_depth_does_no_harm_wherever_it_is(http: httpx.AsyncClient, depth: int) -> None:
    deep = _deep(depth)
    tool = {**FUNCTION, "parameters": {"type": "object", "properties": deep}}
    fields: list[dict[str, Any]] = [
        {"tools": [tool]},
        {"tools": [tool], "tool_choice": "required"},
        {"tools": [{"type": "web_search", "filters": deep}, FUNCTION]},
        {"text": {"format": {"type": "json_schema", "name": "x", "schema": deep}}},
        {"metadata": deep},
        {"tool_choice": deep},
        {"reasoning": {"effort": "low", "context": deep}},
        {"input": [{"role": "user", "content": "Hi", "x": deep}]},
        {"input": [{"role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": deep}]}]},
        {"input": [{**CALL, "arguments": json.dumps(deep)}]},
    ]
    for one in fields:
        for path in ("/v1/responses", "/v1/responses/input_tokens"):
            answer = await http.post(path, json={"input": "Hi", **one})
            assert answer.status_code in (200, 400), (one.keys(), answer.text)


async def test_what_a_part_cannot_be_is_said(http: httpx.AsyncClient) -> None:
    error = (await http.post("/v1/responses", json=MALFORMED["image"][0])).json()["error"]
    assert "'input_image'" in error["message"]
    assert "text only" in error["message"]


async def test_a_body_over_the_limit_is_413(http: httpx.AsyncClient) -> None:
    assert (await http.post("/v1/responses", json={"input": "a" * 2**20})).status_code == 413


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_wrong_method_is_405(http: httpx.AsyncClient, method: str) -> None:
    assert (await http.request(method, "/v1/responses")).status_code == 405


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KINDS = ["message", "function_call", "function_call_output", "custom_tool_call", "reasoning", "x", None]
ITEMS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(KINDS),
        "role": st.sampled_from(["user", "assistant", "system", "king"]),
        "content": JSON | st.lists(st.fixed_dictionaries({"type": st.just("input_text"), "text": JSON}), max_size=2),
        "call_id": JSON,
        "name": JSON,
        "arguments": JSON,
        "output": JSON,
        "id": JSON,
    },
)
REQUESTS = st.fixed_dictionaries(
    {"input": st.text(max_size=5) | st.lists(ITEMS, max_size=4) | JSON},
    optional={name: JSON for name in ResponsesRequest.__struct_fields__ if name != "input"},
)


@given(fields=REQUESTS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_is_sent_is_read_or_refused(fields: dict[str, Any]) -> None:
    try:
        request = read_request(json.dumps(fields).encode())
        request.question(Store().received(request.input), request.toolbox())
    except ApiError as error:
        refused = error
    else:
        return
    assert refused.status == 400
    assert msgspec.json.decode(refused.body())["error"]["message"]
