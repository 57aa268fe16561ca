from __future__ import annotations

from typing import Any

import httpx
import pytest

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

USER = b'"messages":[{"role":"user","content":"Hi"}]'


def _with(field: bytes) -> bytes:
    return b"{" + USER + b"," + field + b"}"


def _saying(content: bytes) -> bytes:
    return b'{"messages":[{"role":"user","content":' + content + b"}]}"


MALFORMED: dict[str, tuple[bytes, str | None]] = {
    "empty body": (b"", None),
    "no json": (b"hello", None),
    "cut off": (b'{"messages":[', None),
    "two documents": (b"{" + USER + b"}{}", None),
    "form data": (b"model=x&messages=y", None),
    "byte order mark": (b"\xef\xbb\xbf{" + USER + b"}", None),
    "utf-16": (("{}").encode("utf-16"), None),
    "invalid utf-8": (_saying(b'"\xff\xfe"'), None),
    "surrogate in utf-8": (_saying(b'"\xed\xa0\x80"'), None),
    "lone high surrogate": (_saying(b'"\\ud800"'), None),
    "lone low surrogate": (_saying(b'"\\udc00 and more"'), None),
    "deep arrays": (_with(b'"x":' + b"[" * 100_000 + b"]" * 100_000), None),
    "deep objects": (_with(b'"tools":[' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"]"), None),
    "an array": (b"[]", None),
    "null": (b"null", None),
    "no messages": (b'{"model":""}', "messages"),
    "messages null": (b'{"messages":null}', "messages"),
    "messages empty": (b'{"messages":[]}', "messages"),
    "messages a string": (b'{"messages":"Hi"}', "messages"),
    "message a string": (b'{"messages":["Hi"]}', "messages[0]"),
    "no role": (b'{"messages":[{"content":"Hi"}]}', "messages[0].role"),
    "unknown role": (b'{"messages":[{"role":"king","content":"Hi"}]}', "messages[0].role"),
    "role a number": (b'{"messages":[{"role":1,"content":"Hi"}]}', "messages[0].role"),
    "no content": (b'{"messages":[{"role":"user"}]}', "messages[0].content"),
    "content null": (_saying(b"null"), "messages[0].content"),
    "content a number": (_saying(b"7"), "messages[0].content"),
    "content an object": (_saying(b'{"type":"text","text":"Hi"}'), "messages[0].content"),
    "image": (_saying(b'[{"type":"image_url","image_url":{"url":"http://x/"}}]'), "messages[0].content[0].type"),
    "audio": (_saying(b'[{"type":"text","text":"a"},{"type":"input_audio"}]'), "messages[0].content[1].type"),
    "file": (_saying(b'[{"type":"file","file":{}}]'), "messages[0].content[0].type"),
    "part without text": (_saying(b'[{"type":"text"}]'), "messages[0].content[0].text"),
    "temperature NaN": (_with(b'"temperature":NaN'), None),
    "temperature Infinity": (_with(b'"temperature":Infinity'), None),
    "temperature 1e400": (_with(b'"temperature":1e400'), "temperature"),
    "temperature too high": (_with(b'"temperature":2.1'), "temperature"),
    "temperature negative": (_with(b'"temperature":-0.1'), "temperature"),
    "temperature a string": (_with(b'"temperature":"1"'), "temperature"),
    "temperature true": (_with(b'"temperature":true'), "temperature"),
    "top_p zero": (_with(b'"top_p":0'), "top_p"),
    "top_p above one": (_with(b'"top_p":1.01'), "top_p"),
    "top_k below -1": (_with(b'"top_k":-2'), "top_k"),
    "top_k a fraction": (_with(b'"top_k":1.5'), "top_k"),
    "top_k huge": (_with(b'"top_k":99999999999999999999'), "top_k"),
    "min_p above one": (_with(b'"min_p":2'), "min_p"),
    "seed of 6000 digits": (_with(b'"seed":' + b"9" * 6000), "seed"),
    "seed above int64": (_with(b'"seed":9223372036854775808'), "seed"),
    "max_tokens zero": (_with(b'"max_tokens":0'), "max_tokens"),
    "max_tokens negative": (_with(b'"max_tokens":-1'), "max_tokens"),
    "max_tokens of 6000 digits": (_with(b'"max_tokens":' + b"9" * 6000), "max_tokens"),
    "max_completion_tokens a string": (_with(b'"max_completion_tokens":"5"'), "max_completion_tokens"),
    "stop a number": (_with(b'"stop":5'), "stop"),
    "stop with null": (_with(b'"stop":["a",null]'), "stop[1]"),
    "stop with an empty string": (_with(b'"stop":["a",""]'), "stop[1]"),
    "17 stops": (_with(b'"stop":[' + b",".join([b'"a"'] * 17) + b"]"), "stop"),
    "stream a string": (_with(b'"stream":"yes"'), "stream"),
    "stream_options a list": (_with(b'"stream_options":[]'), "stream_options"),
    "no answers": (_with(b'"n":0'), "n"),
    "65 answers": (_with(b'"n":65'), "n"),
    "n true": (_with(b'"n":true'), "n"),
    "logprobs a number": (_with(b'"logprobs":5'), "logprobs"),
    "top_logprobs alone": (_with(b'"top_logprobs":5'), "top_logprobs"),
    "21 top_logprobs": (_with(b'"logprobs":true,"top_logprobs":21'), "top_logprobs"),
    "tools an object": (_with(b'"tools":{"type":"function","function":{"name":"f"}}'), "tools"),
    "tool of another type": (_with(b'"tools":[{"type":"browser"}]'), "tools[0].type"),
    "tool without a name": (_with(b'"tools":[{"type":"function","function":{}}]'), "tools[0].function.name"),
    "parameters a list": (
        _with(b'"tools":[{"type":"function","function":{"name":"f","parameters":[]}}]'),
        "tools[0].function.parameters",
    ),
    "tool_choice required without tools": (_with(b'"tool_choice":"required"'), "tool_choice"),
    "tool_choice of a tool that is not there": (
        _with(
            b'"tools":[{"type":"function","function":{"name":"f"}}],'
            b'"tool_choice":{"type":"function","function":{"name":"g"}}'
        ),
        "tool_choice",
    ),
    "tool_choice a word": (_with(b'"tool_choice":"maybe"'), "tool_choice"),
    "parameters that cannot be guaranteed": (
        _with(
            b'"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"array","uniqueItems":true}}}],'
            b'"tool_choice":"required"'
        ),
        "tools",
    ),
    "a form that there is not": (_with(b'"response_format":{"type":"yaml"}'), "response_format.type"),
    "schema missing": (_with(b'"response_format":{"type":"json_schema"}'), "response_format.json_schema"),
    "schema that cannot be guaranteed": (
        _with(b'"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"not":{}}}}'),
        "response_format",
    ),
    "schema that names an address": (
        _with(
            b'"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"$ref":"http://127.0.0.1/"}}}'
        ),
        "response_format",
    ),
    "a schema that is no JSON": (_with(b'"guided_json":"{"'), "guided_json"),
    "a broken pattern": (_with(b'"guided_regex":"(a"'), "guided_regex"),
    "a broken grammar": (_with(b'"grammar":"root ::= ("'), "grammar"),
    "two forms": (_with(b'"guided_regex":"a","grammar":"root ::= \\"a\\""'), "grammar"),
    "logit_bias beyond the vocabulary": (_with(b'"logit_bias":{"999999999":1}'), "logit_bias"),
    "logit_bias of a word": (_with(b'"logit_bias":{"the":1}'), "logit_bias"),
    "logit_bias of a negative token": (_with(b'"logit_bias":{"-1":1}'), "logit_bias"),
    "logit_bias too high": (_with(b'"logit_bias":{"5":101}'), "logit_bias[...]"),
    "presence_penalty too high": (_with(b'"presence_penalty":2.5'), "presence_penalty"),
    "frequency_penalty a string": (_with(b'"frequency_penalty":"1"'), "frequency_penalty"),
    "repetition_penalty negative": (_with(b'"repetition_penalty":-1'), "repetition_penalty"),
    "a template of the client's": (_with(b'"chat_template_kwargs":{"chat_template":"x"}'), "chat_template_kwargs"),
    "the server's variables": (_with(b'"chat_template_kwargs":{"messages":[]}'), "chat_template_kwargs"),
    "model a number": (_with(b'"model":3'), "model"),
    "more messages than context": (
        b'{"messages":[' + b",".join([b'{"role":"user","content":""}'] * 1001) + b"]}",
        "messages",
    ),
    "prompt over the context": (_saying(b'"' + b"word " * 5000 + b'"'), "messages"),
}


@pytest.mark.parametrize("stream", [False, True])
async def test_malformed_requests_are_refused_in_openais_shape_and_the_server_serves_on(
    http: httpx.AsyncClient, engine: ScriptedEngine, stream: bool
) -> None:
    for name, (body, param) in MALFORMED.items():
        if stream and body.endswith(b"}]}"):
            body = body[:-1] + b',"stream":true}'
        answer = await http.post("/v1/chat/completions", content=body)
        assert answer.status_code == 400, (name, answer.text)
        error = _error(answer)
        assert error["type"] == "invalid_request_error", name
        assert error["param"] == param, (name, error)
        assert 10 < len(error["message"]) < 500, (name, error)
    assert engine.client.open_sequences == 0
    assert engine.submitted.empty()
    assert (await http.post("/v1/chat/completions", content=b"{" + USER + b"}")).status_code == 200


@pytest.mark.parametrize(
    "field",
    [
        b'"n":3',
        b'"logprobs":true,"top_logprobs":3',
        b'"tools":[{"type":"function","function":{"name":"f"}}]',
        b'"response_format":{"type":"json_object"}',
        b'"presence_penalty":0.5,"frequency_penalty":-0.5,"repetition_penalty":1.1,"logit_bias":{"5":-100}',
        b'"chat_template_kwargs":{"enable_thinking":false}',
        b'"reasoning_effort":"low"',
        b'"n":1',
        b'"n":null',
        b'"logprobs":false',
        b'"tools":[]',
        b'"tool_choice":"none"',
        b'"response_format":{"type":"text"}',
        b'"logit_bias":{}',
        b'"presence_penalty":0,"frequency_penalty":0.0',
        b'"stop":null',
        b'"stop":""',
        b'"seed":-5',
        b'"temperature":null,"top_p":null,"max_tokens":null,"stream":null',
        b'"user":"me","metadata":{"a":"b"},"store":false,"service_tier":"auto"',
        b'"model":"a","model":"Tiny-8bit"',
    ],
)
async def test_what_asks_for_nothing_unusual_is_taken(http: httpx.AsyncClient, field: bytes) -> None:
    answer = await http.post("/v1/chat/completions", content=_with(field), headers={"Content-Type": "text/plain"})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("depth", [50, 400, 100_000])
async def test_deep_arguments_of_a_tool_call_do_no_harm(http: httpx.AsyncClient, depth: int) -> None:
    arguments = '{"a":' * depth + "1" + "}" * depth
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [call]}]
    answer = await http.post("/v1/chat/completions", json={"messages": chat})
    assert answer.status_code in (200, 400), answer.text


async def test_nul_characters_are_text(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", content=_saying(b'"a\\u0000b"'))
    assert answer.status_code == 200


async def test_a_part_that_is_no_text_is_named(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", content=MALFORMED["image"][0])
    assert "'image_url'" in _error(answer)["message"]
    assert "text only" in _error(answer)["message"]


async def test_a_prompt_over_the_context_is_told_both_numbers(http: httpx.AsyncClient) -> None:
    error = _error(await http.post("/v1/chat/completions", content=MALFORMED["prompt over the context"][0]))
    assert error["code"] == "context_length_exceeded"
    assert "1000" in error["message"]
    assert any(int(number) > 5000 for number in error["message"].split() if number.isdigit())


async def test_a_token_that_the_model_has_not_is_refused(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.become_ready(vocab_size=50)
    answer = await http.post("/v1/chat/completions", content=b"{" + USER + b"}")
    assert (answer.status_code, _error(answer)["param"]) == (400, "messages")


async def test_a_body_over_the_limit_is_413(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", content=_saying(b'"' + b"a" * 2**20 + b'"'))
    assert answer.status_code == 413
    assert _error(answer)["code"] == "body_too_large"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_a_wrong_method_is_405(http: httpx.AsyncClient, method: str) -> None:
    answer = await http.request(method, "/v1/chat/completions")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    _error(answer)


@pytest.mark.parametrize("path", ["/v1/nothing", "/v1/models/no/such", "/dashboard/../app.py", "/dashboard/x", "/{0}"])
async def test_an_unknown_address_is_404(http: httpx.AsyncClient, path: str) -> None:
    answer = await http.get(path)
    assert answer.status_code == 404
    _error(answer)


def _error(answer: httpx.Response) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error
