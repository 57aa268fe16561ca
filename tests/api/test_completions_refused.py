"""What POST /v1/completions refuses: with the field to blame, in OpenAI's shape, and the server serves on."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio


def _with(field: bytes) -> bytes:
    return b'{"prompt":"Hi",' + field + b"}"


def _prompt(prompt: bytes) -> bytes:
    return b'{"prompt":' + prompt + b"}"


REFUSED: dict[str, tuple[bytes, str | None]] = {
    "empty body": (b"", None),
    "an array": (b"[]", None),
    "no prompt": (b"{}", "prompt"),
    "prompt a number": (_prompt(b"5"), "prompt"),
    "prompt true": (_prompt(b"true"), "prompt"),
    "prompt an object": (_prompt(b'{"text":"Hi"}'), "prompt"),
    "empty prompt": (_prompt(b'""'), "prompt"),
    "no prompt at all, and no token to begin with": (_prompt(b"null"), "prompt"),
    "an empty prompt among others": (_prompt(b'["a",""]'), "prompt[1]"),
    "empty list": (_prompt(b"[]"), "prompt"),
    "empty list of tokens": (_prompt(b"[[]]"), "prompt[0]"),
    "a second list of tokens empty": (_prompt(b"[[70],[]]"), "prompt[1]"),
    "lists too deep": (_prompt(b"[[[70]]]"), "prompt[0][0]"),
    "lists far too deep": (_prompt(b"[" * 100_000 + b"]" * 100_000), "prompt[0][0]"),
    "texts and tokens": (_prompt(b'["a",70]'), "prompt"),
    "tokens and lists": (_prompt(b"[70,[70]]"), "prompt"),
    "texts within a list": (_prompt(b'[["a"]]'), "prompt[0][0]"),
    "null among texts": (_prompt(b'["a",null]'), "prompt[1]"),
    "null among tokens": (_prompt(b"[70,null]"), "prompt[1]"),
    "true among tokens": (_prompt(b"[70,true]"), "prompt[1]"),
    "a fraction among tokens": (_prompt(b"[70,1.5]"), "prompt[1]"),
    "an object among tokens": (_prompt(b"[70,{}]"), "prompt[1]"),
    "a negative token": (_prompt(b"[70,-1]"), "prompt[1]"),
    "a negative token in a list": (_prompt(b"[[70],[70,-1]]"), "prompt[1][1]"),
    "a token of 6000 digits": (_prompt(b"[" + b"9" * 6000 + b"]"), "prompt[0]"),
    "a token beyond the vocabulary": (_prompt(b"[70,320]"), "prompt"),
    "a token beyond the vocabulary in a list": (_prompt(b"[[70],[70,320]]"), "prompt[1]"),
    "a lone surrogate": (_prompt(b'"\\ud800"'), None),
    "100,000 prompts": (_prompt(json.dumps(["a"] * 100_000).encode()), "prompt"),
    "100,000 lists": (_prompt(json.dumps([[70]] * 100_000).encode()), "prompt"),
    "100,000 tokens": (_prompt(json.dumps([70] * 100_000).encode()), "prompt"),
    "a text over the context": (_prompt(b'"' + b"word " * 5000 + b'"'), "prompt"),
    "a text over the context among others": (_prompt(b'["a","' + b"word " * 5000 + b'"]'), "prompt[1]"),
    "no room for an answer": (_prompt(json.dumps([70] * 1000).encode()), "prompt"),
    "no room to echo": (
        b'{"prompt":' + json.dumps([70] * 1000).encode() + b',"echo":true,"max_tokens":0,"logprobs":1}',
        "prompt",
    ),
    "too many answers in all": (b'{"prompt":' + json.dumps(["a"] * 100).encode() + b',"n":60}', "n"),
    "too many candidates in all": (b'{"prompt":' + json.dumps(["a"] * 100).encode() + b',"best_of":60}', "best_of"),
    "n zero": (_with(b'"n":0'), "n"),
    "n huge": (_with(b'"n":1000000000'), "n"),
    "n of 6000 digits": (_with(b'"n":' + b"9" * 6000), "n"),
    "n a string": (_with(b'"n":"2"'), "n"),
    "best_of below n": (_with(b'"n":3,"best_of":2'), "best_of"),
    "best_of huge": (_with(b'"best_of":1000000000'), "best_of"),
    "best_of streamed": (_with(b'"best_of":2,"stream":true'), "best_of"),
    "max_tokens zero without echo": (_with(b'"max_tokens":0'), "max_tokens"),
    "max_tokens negative": (_with(b'"max_tokens":-1,"echo":true'), "max_tokens"),
    "max_tokens a string": (_with(b'"max_tokens":"5"'), "max_tokens"),
    "logprobs true": (_with(b'"logprobs":true'), "logprobs"),
    "logprobs negative": (_with(b'"logprobs":-1'), "logprobs"),
    "21 logprobs": (_with(b'"logprobs":21'), "logprobs"),
    "echo a string": (_with(b'"echo":"yes"'), "echo"),
    "suffix without tokens for it": (_with(b'"suffix":"x"'), "suffix"),
    "suffix with echo": (_with(b'"suffix":"x","echo":true'), "suffix"),
    "suffix a list": (_with(b'"suffix":["x"]'), "suffix"),
    "17 stops": (_with(b'"stop":[' + b",".join([b'"a"'] * 17) + b"]"), "stop"),
    "stop with null": (_with(b'"stop":["a",null]'), "stop[1]"),
    "temperature too high": (_with(b'"temperature":2.1'), "temperature"),
    "logit_bias beyond the vocabulary": (_with(b'"logit_bias":{"320":1}'), "logit_bias"),
    "stream_options a list": (_with(b'"stream_options":[]'), "stream_options"),
    "a schema that cannot be guaranteed": (
        _with(b'"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"not":{}}}}'),
        "response_format",
    ),
    "a broken pattern": (_with(b'"guided_regex":"(a"'), "guided_regex"),
    "two forms": (_with(b'"guided_regex":"a","grammar":"root ::= \\"a\\""'), "grammar"),
    "embeddings for a prompt": (_with(b'"prompt_embeds":"AAAA"'), "prompt_embeds"),
    "another server's log-probabilities": (_with(b'"prompt_logprobs":1'), "prompt_logprobs"),
    "beam search": (_with(b'"use_beam_search":true'), "use_beam_search"),
    "model a number": (_with(b'"model":3'), "model"),
}


async def test_what_cannot_be_answered_is_refused_with_the_field_to_blame(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    for name, (body, param) in REFUSED.items():
        for sent in (body, body[:-1] + b',"stream":true}' if body.endswith(b"}") and len(body) > 2 else body):
            answer = await http.post("/v1/completions", content=sent)
            assert answer.status_code == 400, (name, answer.text)
            error: dict[str, Any] = answer.json()["error"]
            assert error.keys() == {"message", "type", "param", "code"}
            assert (error["type"], error["param"]) == ("invalid_request_error", param), (name, error)
            assert 10 < len(error["message"]) < 500, (name, error)
    assert engine.client.open_sequences == 0
    assert engine.submitted.empty()
    assert (await http.post("/v1/completions", content=_prompt(b'"Hi"'))).status_code == 200


@pytest.mark.parametrize(
    "field",
    [
        b'"n":null,"best_of":null,"logprobs":null,"echo":null,"suffix":null,"stop":null,"seed":null',
        b'"temperature":null,"top_p":null,"max_tokens":null,"stream":null,"logit_bias":null',
        b'"best_of":2,"n":2,"stream":true',
        b'"max_tokens":1000000000000',
        b'"user":"me","no_such_field":[1],"use_beam_search":false,"prompt_logprobs":null',
        b'"response_format":{"type":"text"}',
        b'"prompt":["a","b"]',
    ],
)
async def test_what_asks_for_nothing_unusual_is_taken(http: httpx.AsyncClient, field: bytes) -> None:
    answer = await http.post("/completions", content=_with(field), headers={"Content-Type": "text/plain"})
    assert answer.status_code == 200, answer.text


async def test_a_prompt_over_the_context_is_told_both_numbers(http: httpx.AsyncClient) -> None:
    error = (await http.post("/v1/completions", json={"prompt": ["a", [70] * 1234]})).json()["error"]
    assert error["param"] == "prompt"
    error = (await http.post("/v1/completions", json={"prompt": [[70], [70] * 1234]})).json()["error"]
    assert (error["code"], error["param"]) == ("context_length_exceeded", "prompt[1]")
    assert "1000" in error["message"]
    assert "1234" in error["message"]


async def test_a_token_of_the_model_that_the_tokenizer_does_not_know_does_no_harm(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    engine.become_ready(vocab_size=5000)
    engine.script = [4000, 70]
    body = {"prompt": [[70, 4999], [4999]], "echo": True, "logprobs": 1}
    for stream in (False, True):
        answer = await http.post("/v1/completions", json=body | {"stream": stream})
        assert answer.status_code == 200
        assert "its log says why" not in answer.text


async def test_embeddings_are_refused_with_the_reason(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/embeddings", json={"input": "Hi", "model": ""})
    assert answer.status_code == 501
    assert answer.json()["error"]["code"] == "not_supported"
    assert "trained for embeddings" in answer.json()["error"]["message"]
