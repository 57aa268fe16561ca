"""Hostile and mistaken requests to /v1/messages: each is refused in Anthropic's shape, and nothing else suffers."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import msgspec
import pytest
from anthropic import AsyncAnthropic

from mlxserve.config import Settings

from .conftest import Serve
from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

USER = b'"model":"x","max_tokens":5,"messages":[{"role":"user","content":"Hi"}]'


def _with(field: bytes) -> bytes:
    return b"{" + USER + b"," + field + b"}"


def _saying(content: bytes, role: bytes = b"user") -> bytes:
    return b'{"model":"x","max_tokens":5,"messages":[{"role":"' + role + b'","content":' + content + b"}]}"


IMAGE = b'{"type":"image","source":{"type":"url","url":"http://127.0.0.1:1/"}}'
MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty body": (b"", "JSON"),
    "cut off": (b'{"messages":[', "JSON"),
    "an array": (b"[]", "body"),
    "invalid utf-8": (_saying(b'"\xff\xfe"'), "UTF-8"),
    "lone surrogate": (_saying(b'"\\ud800"'), "JSON"),
    "deep arrays": (_with(b'"x":' + b"[" * 100_000 + b"]" * 100_000), "deep"),
    "deep input": (
        _saying(
            b'[{"type":"tool_use","id":"a","name":"f","input":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}]"
        ),
        "deep",
    ),
    "no model": (b'{"max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}', "model"),
    "no max_tokens": (b'{"model":"x","messages":[{"role":"user","content":"Hi"}]}', "max_tokens"),
    "max_tokens null": (b'{"model":"x","max_tokens":null,"messages":[]}', "max_tokens"),
    "max_tokens zero": (b'{"model":"x","max_tokens":0,"messages":[]}', "max_tokens"),
    "no messages": (b'{"model":"x","max_tokens":5}', "messages"),
    "messages empty": (b'{"model":"x","max_tokens":5,"messages":[]}', "messages"),
    "message a string": (b'{"model":"x","max_tokens":5,"messages":["Hi"]}', "messages[0]"),
    "role unknown": (_saying(b'"Hi"', b"tool"), "messages[0].role"),
    "content null": (_saying(b"null"), "messages[0].content"),
    "content a number": (_saying(b"7"), "messages[0].content"),
    "block a string": (_saying(b'["Hi"]'), "messages[0].content[0]"),
    "block without a type": (_saying(b'[{"text":"Hi"}]'), "messages[0].content[0].type"),
    "block without text": (_saying(b'[{"type":"text"}]'), "messages[0].content[0].text"),
    "image": (_saying(b"[" + IMAGE + b"]"), "text only"),
    "document": (_saying(b'[{"type":"document","source":{"type":"url","url":"http://127.0.0.1:1/"}}]'), "text only"),
    "audio": (_saying(b'[{"type":"text","text":"a"},{"type":"input_audio"}]'), "text only"),
    "image in a result": (
        _saying(b'[{"type":"tool_result","tool_use_id":"a","content":[' + IMAGE + b"]}]"),
        "text only",
    ),
    "image in the system prompt": (_with(b'"system":[' + IMAGE + b"]"), "text only"),
    "system a number": (_with(b'"system":5'), "system"),
    "call by a user": (_saying(b'[{"type":"tool_use","id":"a","name":"f","input":{}}]'), "'tool_use'"),
    "result by the model": (_saying(b'[{"type":"tool_result","tool_use_id":"a"}]', b"assistant"), "'tool_result'"),
    "thoughts of a user": (_saying(b'[{"type":"thinking","thinking":"a","signature":""}]'), "'thinking'"),
    "input a list": (_saying(b'[{"type":"tool_use","id":"a","name":"f","input":[]}]', b"assistant"), "input"),
    "call without id": (_saying(b'[{"type":"tool_use","name":"f","input":{}}]', b"assistant"), "id"),
    "result without id": (_saying(b'[{"type":"tool_result"}]'), "tool_use_id"),
    "temperature too high": (_with(b'"temperature":1.1'), "temperature"),
    "temperature NaN": (_with(b'"temperature":NaN'), "JSON"),
    "top_p zero": (_with(b'"top_p":0'), "top_p"),
    "top_k a fraction": (_with(b'"top_k":1.5'), "top_k"),
    "stop_sequences a string": (_with(b'"stop_sequences":"a"'), "stop_sequences"),
    "an empty stop sequence": (_with(b'"stop_sequences":["a",""]'), "stop_sequences[1]"),
    "65 stop sequences": (_with(b'"stop_sequences":[' + b",".join([b'"a"'] * 65) + b"]"), "stop_sequences"),
    "stream a string": (_with(b'"stream":"yes"'), "stream"),
    "thinking of a kind that there is not": (_with(b'"thinking":{"type":"hard"}'), "thinking.type"),
    "thinking true": (_with(b'"thinking":true'), "thinking"),
    "tools an object": (_with(b'"tools":{}'), "tools"),
    "tool without a name": (_with(b'"tools":[{"input_schema":{}}]'), "tools[0].name"),
    "tool without a schema": (_with(b'"tools":[{"name":"f"}]'), "tools[0].input_schema"),
    "schema a list": (_with(b'"tools":[{"name":"f","input_schema":[]}]'), "tools[0].input_schema"),
    "any tool of none": (_with(b'"tool_choice":{"type":"any"}'), "tool_choice"),
    "a tool that is not there": (
        _with(b'"tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"tool","name":"g"}'),
        "'g'",
    ),
    "tool_choice a word": (_with(b'"tool_choice":"auto"'), "tool_choice"),
    "a schema that cannot be guaranteed": (
        _with(
            b'"tools":[{"name":"f","input_schema":{"type":"object","properties":{"a":{"uniqueItems":true}}}}],'
            b'"tool_choice":{"type":"any"}'
        ),
        "uniqueItems",
    ),
    "a form that there is not": (_with(b'"output_config":{"format":{"type":"yaml"}}'), "output_config.format.type"),
    "a form without a schema": (_with(b'"output_format":{"type":"json_schema"}'), "output_format.schema"),
    "a form that cannot be guaranteed": (
        _with(b'"output_config":{"format":{"type":"json_schema","schema":{"not":{}}}}'),
        "output_config.format",
    ),
    "servers of tools": (
        _with(b'"mcp_servers":[{"type":"url","url":"http://127.0.0.1:1/","name":"a"}]'),
        "mcp_servers",
    ),
}


@pytest.mark.parametrize("stream", [False, True])
async def test_malformed_requests_are_refused_in_anthropics_shape_and_the_server_serves_on(
    http: httpx.AsyncClient, engine: ScriptedEngine, stream: bool
) -> None:
    for name, (body, named) in MALFORMED.items():
        if stream and body.endswith(b"}]}"):
            body = body[:-1] + b',"stream":true}'
        answer = await http.post("/v1/messages", content=body)
        assert answer.status_code == 400, (name, answer.text)
        error = _error(answer)
        assert error["type"] == "invalid_request_error", name
        assert named in error["message"], (name, error)
        assert 10 < len(error["message"]) < 500, (name, error)
    assert engine.client.open_sequences == 0
    assert engine.submitted.empty()
    assert (await http.post("/v1/messages", content=b"{" + USER + b"}")).status_code == 200


async def test_counting_refuses_the_same(http: httpx.AsyncClient) -> None:
    answering = ("max_tokens", "temperature", "top_", "stop_sequences", "stream")
    for name, (body, named) in MALFORMED.items():
        if name == "temperature NaN" or (not named.startswith(answering) and "max_tokens" not in name):
            answer = await http.post("/v1/messages/count_tokens", content=body)
            assert answer.status_code == 400, (name, answer.text)
            assert named in _error(answer)["message"], name


async def test_a_prompt_over_the_context_is_told_both_numbers_in_anthropics_words(claude: AsyncAnthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: \d{4,} tokens > 999 maximum"):
        await claude.messages.create(model="x", max_tokens=5, messages=[{"role": "user", "content": "word " * 2000}])
    many: Any = [{"role": role, "content": ""} for role in ("user", "assistant")] * 600
    for asking in (claude.messages.create(model="x", max_tokens=5, messages=many), _count(claude, many)):
        with pytest.raises(anthropic.BadRequestError, match=r"prompt is too long: 1200 tokens > 999 maximum"):
            await asking


async def test_a_body_over_the_limit_is_413(claude: AsyncAnthropic) -> None:
    long: Any = [{"role": "user", "content": "a" * 2**20}]
    for asking in (claude.messages.create(model="x", max_tokens=5, messages=long), _count(claude, long)):
        with pytest.raises(anthropic.ContentTooLargeError) as raised:
            await asking
        assert raised.value.type == "request_too_large"
        assert raised.value.request_id


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/messages"])
async def test_a_wrong_method_is_405(http: httpx.AsyncClient, path: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        answer = await http.request(method, path)
        assert answer.status_code == 405
        assert answer.headers["allow"] == "POST"
        assert _error(answer)["type"] == "invalid_request_error"


async def test_what_else_anthropic_has_below_messages_is_404(http: httpx.AsyncClient) -> None:
    for method in ("GET", "POST"):
        answer = await http.request(method, "/v1/messages/batches")
        assert answer.status_code == 404
        assert _error(answer)["type"] == "not_found_error"
    elsewhere = (await http.get("/v1/messagesx")).json()
    assert elsewhere["error"].keys() >= {"message", "param"}, "OpenAI's shape"


async def test_while_the_model_loads_a_client_is_told_to_come_back(serve: Serve, settings: Settings) -> None:
    async with serve(settings) as base, AsyncAnthropic(base_url=base, api_key="none", max_retries=0) as claude:
        for asking in (
            claude.messages.create(model="x", max_tokens=5, messages=[{"role": "user", "content": "Hi"}]),
            _count(claude, [{"role": "user", "content": "Hi"}]),
        ):
            with pytest.raises(anthropic.ServiceUnavailableError) as raised:
                await asking
            assert raised.value.type == "overloaded_error"
            assert raised.value.response.headers["retry-after"]


async def test_a_key_that_is_not_known_is_401_and_a_known_one_may_come_in_either_header(
    serve: Serve, settings: Settings
) -> None:
    async with serve(msgspec.structs.replace(settings, api_keys=("secret",))) as base:
        async with AsyncAnthropic(base_url=base, api_key="wrong", max_retries=0) as claude:
            with pytest.raises(anthropic.AuthenticationError) as raised:
                await _count(claude, [{"role": "user", "content": "Hi"}])
            assert raised.value.type == "authentication_error"
        for key in ({"api_key": "secret"}, {"auth_token": "secret"}):
            async with AsyncAnthropic(base_url=base, max_retries=0, **key) as claude:  # type: ignore[arg-type]
                with pytest.raises(anthropic.ServiceUnavailableError):
                    await _count(claude, [{"role": "user", "content": "Hi"}])


async def test_a_model_that_is_not_served_is_404_where_names_are_strict(serve: Serve, settings: Settings) -> None:
    async with (
        serve(msgspec.structs.replace(settings, strict_model=True)) as base,
        AsyncAnthropic(base_url=base, api_key="none", max_retries=0) as claude,
    ):
        with pytest.raises(anthropic.NotFoundError) as raised:
            await _count(claude, [{"role": "user", "content": "Hi"}])
        assert raised.value.type == "not_found_error"


@pytest.mark.parametrize("number", [b"9" * 6000, b"-" + b"9" * 30, b"1e400", b"1e-400"])
async def test_numbers_beyond_all_bounds_do_no_harm(http: httpx.AsyncClient, number: bytes) -> None:
    call = b'{"type":"tool_use","id":"a","name":"f","input":{"n":' + number + b"}}"
    chat = b'[{"role":"user","content":"Hi"},{"role":"assistant","content":[' + call + b"]}]"
    tool = b'[{"name":"f","input_schema":{"type":"object","maxProperties":' + number + b"}}]"
    for choice in (b"auto", b"any"):
        chosen = b'"tool_choice":{"type":"' + choice + b'"}'
        body = b'{"model":"x","max_tokens":5,"messages":' + chat + b',"tools":' + tool + b"," + chosen + b"}"
        answer = await http.post("/v1/messages", content=body)
        assert answer.status_code in (200, 400), answer.text


async def test_a_schema_that_is_nonsense_does_no_harm(http: httpx.AsyncClient) -> None:
    for schema in (
        {"type": 5},
        {"properties": []},
        {"$ref": "#/nowhere"},
        {"$ref": "#"},
        {"required": "a"},
        {"": None},
    ):
        for choice in ("auto", "any"):
            body = json.loads(b"{" + USER + b"}") | {
                "tools": [{"name": "f", "input_schema": schema}],
                "tool_choice": {"type": choice},
            }
            answer = await http.post("/v1/messages", json=body)
            assert answer.status_code in (200, 400), (schema, choice, answer.text)


async def _count(claude: AsyncAnthropic, chat: Any) -> Any:
    return await claude.messages.count_tokens(model="x", messages=chat)


def _error(answer: httpx.Response) -> dict[str, Any]:
    body = answer.json()
    assert body.keys() == {"type", "error", "request_id"}
    assert body["type"] == "error"
    assert body["request_id"] == answer.headers["request-id"]
    error: dict[str, Any] = body["error"]
    assert error.keys() == {"type", "message"}
    return error
