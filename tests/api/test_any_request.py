"""Whatever a client sends is answered by a status that the description tells, in the shape of the API it speaks."""

from __future__ import annotations

import json
from typing import Any

import httpx
import msgspec
import pytest
from anyio import to_thread
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from mlxserve.api.anthropic.request import MessageRequest
from mlxserve.api.completions.request import CompletionRequest
from mlxserve.api.responses.request import ResponsesRequest
from mlxserve.api.schema import ChatRequest
from mlxserve.api.tokens import DetokenizeRequest, TokenizeRequest
from mlxserve.engine.messages import Likelihood

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

USER = {"role": "user", "content": "Hi"}
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
REQUESTS: dict[str, tuple[type[msgspec.Struct], dict[str, Any]]] = {
    "/v1/chat/completions": (ChatRequest, {"messages": [USER]}),
    "/v1/completions": (CompletionRequest, {"prompt": "Hi"}),
    "/v1/messages": (MessageRequest, {"model": "m", "messages": [USER], "max_tokens": 5}),
    "/v1/messages/count_tokens": (MessageRequest, {"model": "m", "messages": [USER]}),
    "/v1/responses": (ResponsesRequest, {"input": "Hi"}),
    "/v1/tokenize": (TokenizeRequest, {"content": "Hi"}),
    "/v1/detokenize": (DetokenizeRequest, {"tokens": [1, 2]}),
    "/v1/apply-template": (ChatRequest, {"messages": [USER]}),
}
"""What is sent to each address: the type whose fields are tried, and a request that is good."""

NUMBERS = st.one_of(
    st.integers(-3, 70), st.sampled_from([2**31 - 1, 2**31, 2**63 - 1, -(2**63), 2**64, 10**400]),
    st.floats(-3, 3), st.floats(), st.sampled_from([1e308, 5e-324, -0.0]),
)  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        [
            *("", "none", "auto", "required", "any", "low", "text", "json_object", "system", "assistant", "<|im_end|>"),
            *("\x00", "\ufffe", "é" * 300, "(", "[a", "(?=a)", "a{99999}", "root ::= (", 'root ::= "a"', "start: /a/"),
            *("{}", "[", "true", '{"type":"object"}', "../../etc/passwd", "http://127.0.0.1:1/", "{{ 1/0 }}"),
        ]
    ),
)
GOOD: list[Any] = [
    [USER],
    [USER, {"role": "assistant", "content": "Well"}],
    [USER, {"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "1", "content": []}],
    [{"role": "tool", "tool_call_id": "1", "content": "x"}],
    [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "x"}}]}],
    [{"type": "message", **USER}],
    [USER, {"type": "function_call_output", "call_id": "1", "output": "x"}],
    [{"type": "function", "function": FUNCTION}],
    [{"type": "function", **FUNCTION}],
    [{"name": "f", "input_schema": {}}],
    {"type": "function", "function": {"name": "f"}},
    *({"type": "tool", "name": "f"}, {"type": "any"}, {"type": "auto"}, {"type": "enabled", "budget_tokens": 5}),
    *({"type": "json_object"}, {"type": "json_object", "schema": True}, {"format": {"type": "json_object"}}),
    *({"type": "json_schema", "json_schema": {}}, {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}),
    {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True}},
    *({"regex": "a|b"}, {"choice": ["a"]}, {"json": {"type": "string", "pattern": "("}}, {"json": "{"}),
    *({"5": 1}, {"x": 1}, {"5": 200}, {"include_usage": True}, {"enable_thinking": False}, {"effort": "low"}),
    *([1, 2, 3], [[1, 2], [3]], ["a", "b"], ["a", 1], [319], [320], [10**9], {"messages": []}),
]
"""Values that some field takes. Each is tried in all fields."""
ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS, st.sampled_from(GOOD)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)
SMALL = {"n": st.one_of(st.integers(-1, 3), TEXTS), "best_of": st.one_of(st.integers(-1, 3), TEXTS)}
"""Fields whose greatest values only take time here."""

DEEP = ('{"properties":{"a":', "}}"), ('{"items":', "}"), ('{"a":', "}"), ("[", "]")
PLACES = [
    ("/v1/chat/completions", '"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":%s}}'),
    ("/v1/chat/completions", '"tools":[{"type":"function","function":{"name":"f","parameters":%s}}]'),
    (
        "/v1/chat/completions",
        '"tool_choice":"required","tools":[{"type":"function","function":{"name":"f","parameters":%s}}]',
    ),
    ("/v1/chat/completions", '"chat_template_kwargs":{"x":%s}'),
    ("/v1/chat/completions", '"unknown":%s'),
    ("/v1/completions", '"guided_json":%s'),
    ("/v1/messages", '"tools":[{"name":"f","input_schema":%s}]'),
    ("/v1/messages", '"tool_choice":{"type":"any"},"tools":[{"name":"f","input_schema":%s}]'),
    ("/v1/messages", '"output_format":{"type":"json_schema","schema":%s}'),
    ("/v1/responses", '"tools":[{"type":"function","name":"f","parameters":%s}]'),
    ("/v1/responses", '"text":{"format":{"type":"json_schema","name":"x","schema":%s}}'),
    ("/v1/apply-template", '"tools":[{"type":"function","function":{"name":"f","parameters":%s}}]'),
]
"""Where JSON may be as deep as a client likes."""


@pytest.mark.parametrize("path", REQUESTS)
async def test_any_value_of_any_field_is_answered(base: str, engine: ScriptedEngine, path: str) -> None:
    engine.script, engine.likelihood = list(range(3, 320, 29)), Likelihood(-0.5, [(5, -0.5), (300, -1.0)])
    async with httpx.AsyncClient(base_url=base) as http:
        described = (await http.get("/openapi.json")).json()["paths"][path]["post"]["responses"]
    allowed = {int(status) for status in described if int(status) < 500}
    await to_thread.run_sync(_try, base, path, allowed)
    assert engine.client.open_sequences == 0


def _try(base: str, path: str, allowed: set[int]) -> None:
    kind, good = REQUESTS[path]
    fields = {field.encode_name: SMALL.get(field.name, ANYTHING) for field in msgspec.structs.fields(kind)}
    some = st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=3, unique=True)
    seen = set()

    @given(some.flatmap(lambda names: st.fixed_dictionaries({name: fields[name] for name in names})))
    @examples(
        max_examples=150,
        deadline=None,
        database=None,
        derandomize=True,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    def check(changed: dict[str, Any]) -> None:
        answer = http.post(path, content=json.dumps(good | changed))
        seen.add(answer.status_code)
        assert answer.status_code in allowed, (changed, answer.text)
        if answer.status_code == 200:
            assert '"server_error"' not in answer.text, changed
            assert '"api_error"' not in answer.text, changed
        else:
            _check_error(path, answer)

    with httpx.Client(base_url=base, timeout=10) as http:
        check()
    assert seen == {200, 400}


@pytest.mark.parametrize(("path", "field"), PLACES)
async def test_no_depth_of_json_is_too_much(http: httpx.AsyncClient, path: str, field: str) -> None:
    good = json.dumps(REQUESTS[path][1])[:-1]
    for depth in (30, 60, 130, 300, 480, 900, 1000, 30_000):
        for opened, closed in DEEP:
            nested = field % (opened * depth + "{}" + closed * depth)
            answer = await http.post(path, content=f"{good},{nested}}}")
            assert answer.status_code in (200, 400), (depth, opened, answer.text)
            if answer.status_code == 400:
                _check_error(path, answer)


@pytest.mark.parametrize(("schema", "status"), [(True, 200), (False, 400), ({}, 200), ({"anyOf": []}, 400)])
async def test_a_schema_may_be_true_or_false(http: httpx.AsyncClient, schema: Any, status: int) -> None:
    for form in ({"type": "json_object", "schema": schema}, {"type": "json_schema", "json_schema": {"schema": schema}}):
        answer = await http.post("/v1/chat/completions", json={"messages": [USER], "response_format": form})
        assert answer.status_code == status, answer.text


def _check_error(path: str, answer: httpx.Response) -> None:
    body = answer.json()
    if path.startswith("/v1/messages"):
        assert body.keys() == {"type", "error", "request_id"}
        assert body["error"].keys() == {"type", "message"}
    else:
        assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["error"]["type"] == "invalid_request_error"
    assert 10 < len(body["error"]["message"]) < 1000
