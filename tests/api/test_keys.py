"""Who may ask."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from mlxserve.api.app import create_app
from mlxserve.config import Settings
from mlxserve.errors import UserError
from mlxserve.keys import keys_from

from .conftest import Serve
from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

LOCKED = Settings(model="mlx-community/Tiny-8bit", api_keys=("sk-one", "sk-two"))
CHAT = {"messages": [{"role": "user", "content": "Hi"}]}
with_keys = pytest.mark.parametrize("settings", [LOCKED])


GOOD: list[dict[str, str]] = [
    {"Authorization": "Bearer sk-one"},
    {"Authorization": "Bearer sk-two"},
    {"authorization": "bearer  sk-two"},
    {"x-api-key": "sk-one"},
    {"X-Api-Key": "sk-two", "Authorization": "Bearer of bad news"},
    {"x-api-key": "none", "Authorization": "Bearer sk-one"},
]
BAD: list[dict[str, Any]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer sk-on"},
    {"Authorization": "Bearer sk-one,sk-two"},
    {"Authorization": "Bearer SK-ONE"},
    {"Authorization": "Basic sk-one"},
    {"Authorization": "sk-one"},
    {"Authorization": b"Bearer sk-\xff\xfe"},
    {"x-api-key": ""},
    {"x-api-key": "Bearer sk-one"},
    {"api-key": "sk-one"},
    {"Cookie": "x-api-key=sk-one"},
]
LOCKED_TARGETS = (
    *("GET /v1/models", "GET /models", "GET /openapi.json", "POST /chat/completions", "GET /v1/nothing"),
    *("HEAD /v1/models", "OPTIONS /v1/models", "GET //v1/models", "GET /health/", "GET /health/../v1/models"),
    *("GET /V1/MODELS", "GET /dashboard", "GET /%76%31/models"),
)
WAYS_ROUND = ("/dashboard/../v1/models", "/dashboard/%2e%2e/v1/models", "/dashboard/../../keys.py")


@with_keys
async def test_any_of_the_keys_is_taken_as_either_client_sends_it(http: httpx.AsyncClient) -> None:
    for headers in GOOD:
        assert (await http.post("/v1/chat/completions", json=CHAT, headers=headers)).status_code == 200, headers
        assert (await http.get("/v1/models", headers=headers)).status_code == 200, headers


@with_keys
async def test_without_a_key_it_is_401(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    for headers in BAD:
        answer = await http.post("/v1/chat/completions", json=CHAT, headers=headers)
        assert answer.status_code == 401, headers
        assert answer.headers["www-authenticate"] == "Bearer"
        error = answer.json()["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
    assert engine.submitted.empty()


@with_keys
async def test_all_but_the_page_and_the_health_needs_a_key(http: httpx.AsyncClient) -> None:
    for method, path in (target.split() for target in LOCKED_TARGETS):
        assert await _status(http, method, path) == 401, path
    for path in ("/", "/health", "/dashboard/main.js", "/dashboard/base.css", "/dashboard/chat/chat.js"):
        assert await _status(http, "GET", path) == 200, path


@with_keys
async def test_there_is_no_way_round_by_the_page(http: httpx.AsyncClient) -> None:
    for path in WAYS_ROUND:
        assert await _status(http, "GET", path) in (401, 404), path


@with_keys
async def test_official_clients_send_keys_that_are_taken(base: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="sk-two", max_retries=0) as client:
        assert len((await client.models.list()).data) == 1
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as raised:
            await client.models.list()
    assert raised.value.code == "invalid_api_key"
    async with anthropic.AsyncAnthropic(base_url=base, api_key="sk-one", max_retries=0) as claude:
        assert [model.id async for model in claude.models.list()] == ["mlx-community/Tiny-8bit"]
    async with anthropic.AsyncAnthropic(base_url=base, api_key="wrong", max_retries=0) as claude:
        with pytest.raises(anthropic.AuthenticationError) as refused:
            await claude.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "Hi"}])
    assert "authentication_error" in str(refused.value)


async def test_without_keys_whatever_is_sent_is_taken(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/models", headers={"Authorization": "Bearer none"})).status_code == 200


async def test_keys_of_a_file_are_taken_too(serve: Serve, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# the team's\nsk-file\n\n  sk-other  \r\n")
    async with (
        serve(Settings(api_keys=("sk-flag",), api_key_file=str(file))) as address,
        httpx.AsyncClient(base_url=address) as http,
    ):
        for key, status in {"sk-file": 200, "sk-other": 200, "sk-flag": 200, "# the team's": 401, "": 401}.items():
            answer = await http.get("/v1/models", headers={"x-api-key": key})
            assert answer.status_code == status, key


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "holds no key"),
        (b"# nothing\n\n", "holds no key"),
        (b"good\ntwo words\n", "line 2 is no key"),
        ("schlüssel".encode(), "line 1 is no key"),
        (b"\xff\xfe", "cannot be read"),
        (None, "cannot be read: No such file or directory"),
    ],
)
async def test_a_file_without_good_keys_is_told_at_the_start(
    engine: ScriptedEngine, tmp_path: Path, content: bytes | None, sentence: str
) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=sentence) as raised:
        create_app(engine.client, Settings(api_key_file=str(file)))
    assert "two words" not in str(raised.value)


async def test_keys_come_from_the_environment() -> None:
    assert keys_from({}) == ()
    assert keys_from({"MLXSERVE_API_KEY": "sk-one, sk-two"}) == ("sk-one", "sk-two")
    for wrong in ("", " ", "a,", "a b"):
        with pytest.raises(UserError, match="MLXSERVE_API_KEY"):
            keys_from({"MLXSERVE_API_KEY": wrong})


@with_keys
async def test_the_log_holds_no_key(http: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.DEBUG, "mlxserve.api"):
        for key in ("sk-one", "sk-wrong"):
            await http.post("/v1/chat/completions", json=CHAT, headers={"Authorization": f"Bearer {key}"})
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("mlxserve", "uvicorn"))]
    assert any("status=401" in line for line in ours)
    assert not any("sk-" in line for line in ours)


async def _status(http: httpx.AsyncClient, method: str, path: str) -> int:
    """For `path` as it is, which httpx would tidy up."""
    return (await http.request(method, http.base_url.copy_with(raw_path=path.encode()))).status_code
