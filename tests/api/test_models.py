"""The model's names."""

from __future__ import annotations

import json

import httpx
import openai
import pytest

from mlxserve.config import Settings

from .conftest import Serve
from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

MODEL = "mlx-community/Tiny-8bit"
NAMED = Settings(model=MODEL, model_names=("fast", "team/small"))
STRICT = Settings(model=MODEL, model_names=("fast", "team/small"), strict_model=True)


async def test_the_model_is_told_with_its_context(client: openai.AsyncOpenAI) -> None:
    (model,) = (await client.models.list()).data
    assert (model.id, model.object, model.owned_by) == (MODEL, "model", "mlxserve")
    assert model.created > 1_700_000_000
    assert model == await client.models.retrieve(MODEL) == await client.models.retrieve("Tiny-8bit")
    told = model.to_dict()
    assert told["context_length"] == told["max_model_len"] == 1000
    assert told["meta"] == {"n_vocab": 320, "n_ctx": 1000, "n_ctx_train": 1000}


async def test_before_the_model_is_loaded_its_name_is_known(serve: Serve) -> None:
    async with serve(Settings(model=MODEL)) as address, httpx.AsyncClient(base_url=address) as http:
        (model,) = (await http.get("/v1/models")).json()["data"]
    assert (model["id"], model["context_length"]) == (MODEL, None)


@pytest.mark.parametrize("settings", [NAMED])
async def test_all_names_are_listed_and_answers_carry_the_first(client: openai.AsyncOpenAI) -> None:
    assert [model.id for model in (await client.models.list()).data] == ["fast", "team/small"]
    assert (await client.models.retrieve("team/small")).id == "team/small"
    for name in ("fast", "team/small", "gpt-4o", MODEL):
        answer = await client.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hi"}])
        assert answer.model == "fast"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_for_another_name_is_served_under_the_models_own(
    http: httpx.AsyncClient, engine: ScriptedEngine, stream: bool
) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    answer = await http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    objects = [line.removeprefix("data: ") for line in answer.text.splitlines() if "{" in line]
    assert {json.loads(one)["model"] for one in objects} == {MODEL}


@pytest.mark.parametrize("settings", [STRICT])
async def test_strictly_another_name_is_404_and_the_models_own_is_told(client: openai.AsyncOpenAI) -> None:
    for name in ("gpt-4o", "fas", "Fast", "small/team"):
        with pytest.raises(openai.NotFoundError, match="'fast'") as raised:
            await client.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hi"}])
        assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    for name in ("fast", "team/small", "small", "default", "", MODEL):
        answer = await client.chat.completions.create(model=name, messages=[{"role": "user", "content": "Hi"}])
        assert answer.model == "fast"


@pytest.mark.parametrize("name", ["gpt-4o", "fast/", "x/fast", "%00", "a b"])
@pytest.mark.parametrize("settings", [NAMED])
async def test_another_name_is_never_described(http: httpx.AsyncClient, name: str) -> None:
    answer = await http.get(f"/v1/models/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
