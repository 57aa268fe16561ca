"""The API's description, and whether the server is as it says."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
import schemathesis
import schemathesis.openapi
from anyio import to_thread
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from schemathesis import Case, GenerationMode
from schemathesis.checks import CheckContext
from schemathesis.core.transport import Response
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

from mlxserve.config import Settings
from mlxserve.engine.messages import Likelihood

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
USER = {"role": "user", "content": "Hi"}
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": [USER]}),
    ("/v1/chat/completions", {"messages": [USER], "n": 2, "logprobs": True, "top_logprobs": 2}),
    ("/v1/chat/completions", {"messages": [USER], "stream": True}),
    ("/v1/completions", {"prompt": ["a", "b"], "echo": True, "logprobs": 2}),
    ("/v1/responses", {"input": "Hi"}),
    ("/v1/responses", {"input": [USER | {"type": "message"}], "top_logprobs": 2, "instructions": "Be brief"}),
    ("/v1/responses", {"input": "Hi", "stream": True}),
    ("/v1/responses/input_tokens", {"input": "Hi"}),
    ("/v1/messages", {"model": "m", "messages": [USER], "max_tokens": 5}),
    ("/v1/messages", {"model": "m", "messages": [USER], "max_tokens": 5, "stream": True}),
    ("/v1/messages/count_tokens", {"model": "m", "messages": [USER]}),
    ("/v1/tokenize", {"content": "Hi", "with_pieces": True}),
    ("/v1/tokenize", {"prompt": "Hi"}),
    ("/v1/detokenize", {"tokens": [1, 2]}),
    ("/v1/apply-template", {"messages": [USER]}),
]


def no_failure(context: CheckContext, response: Response, case: Case) -> None:
    """Nothing that a client sends is the server's fault; 501 says that a thing is not served at all."""
    assert response.status_code < 500 or response.status_code == 501


async def test_whatever_is_sent_is_answered_as_described(base: str, engine: ScriptedEngine) -> None:
    engine.script, engine.likelihood = list(range(3, 320, 29)), Likelihood(-0.5, [(5, -0.5), (300, -1.0)])
    await to_thread.run_sync(_try_all, base)


def _try_all(base: str) -> None:
    for found in schemathesis.openapi.from_url(f"{base}/openapi.json").get_all_operations():
        operation = found.ok()
        for mode, count in ((GenerationMode.POSITIVE, 25), (GenerationMode.NEGATIVE, 10)):
            _try(operation, mode, count if operation.method == "post" else 5)


def _try(operation: APIOperation, mode: GenerationMode, count: int) -> None:
    if mode == GenerationMode.NEGATIVE and not (operation.body or operation.query):
        return

    @given(case=operation.as_strategy(generation_mode=mode))
    @examples(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Case) -> None:
        response = case.call(timeout=10)
        case.validate_response(response, checks=[*CHECKS, no_failure])

    check()


async def test_good_answers_are_as_described(base: str, engine: ScriptedEngine) -> None:
    engine.script, engine.likelihood = list(range(3, 320, 29)), Likelihood(-0.5, [(5, -0.5), (300, -1.0)])
    await to_thread.run_sync(_ask_all, base)


def _ask_all(base: str) -> None:
    described = schemathesis.openapi.from_url(f"{base}/openapi.json")
    for path, body in GOOD:
        case = described[path]["POST"].Case(body=body, media_type="application/json")
        assert case.call_and_validate(checks=CHECKS).status_code == 200, (path, body)
    kept = httpx.post(f"{base}/v1/responses", json={"input": "Hi"}).json()["id"]
    for path, method in (("{id}", "GET"), ("{id}/input_items", "GET"), ("{id}", "DELETE")):
        case = described[f"/v1/responses/{path}"][method].Case(path_parameters={"id": kept})
        assert case.call_and_validate(checks=CHECKS).status_code == 200, path
    for path in ("models", "health", "props", "slots", "tokenizer_info"):
        assert described[f"/v1/{path}"]["GET"].Case().call_and_validate(checks=CHECKS).status_code == 200, path


async def test_it_is_as_openapi_wants_it(http: httpx.AsyncClient) -> None:
    schemathesis.openapi.from_dict((await http.get("/openapi.json")).json()).validate()


async def test_it_needs_no_key_where_the_server_needs_none(http: httpx.AsyncClient) -> None:
    described = (await http.get("/openapi.json")).json()
    assert described["openapi"] == "3.1.0"
    assert "security" not in described
    assert "securitySchemes" not in described["components"]


@pytest.mark.parametrize("settings", [Settings(model="x", api_keys=("sk-one",))])
async def test_it_tells_which_addresses_need_a_key(http: httpx.AsyncClient) -> None:
    http.headers["x-api-key"] = "sk-one"
    described = (await http.get("/openapi.json")).json()
    assert described["security"] == [{"bearer": []}, {"header": []}]
    del http.headers["x-api-key"]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            answer = await http.request(method, re.sub(r"{\w+}", "x", path))
            assert (answer.status_code == 401) == ("401" in operation["responses"]) == (operation.get("security") != [])


async def test_all_that_it_refers_to_is_there(http: httpx.AsyncClient) -> None:
    text = (await http.get("/openapi.json")).text
    known = httpx.Response(200, text=text).json()["components"]["schemas"]
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= set(known)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in known)


async def test_fields_and_bounds_of_a_chat_are_told(http: httpx.AsyncClient) -> None:
    described: dict[str, Any] = (await http.get("/openapi.json")).json()
    chat = described["components"]["schemas"]["ChatRequest"]
    assert chat["required"] == ["messages"]
    assert chat["properties"]["top_logprobs"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": 20}
