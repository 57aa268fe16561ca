from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from openai import AsyncOpenAI

from mlxserve.config import Place, Settings
from mlxserve.engine import messages
from mlxserve.errors import UserError

from .conftest import Serve
from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio


async def test_a_healthy_cluster(http: httpx.AsyncClient) -> None:
    answer = await http.get("/health")
    assert answer.status_code == 200
    health = answer.json()
    expected = {
        "status": "healthy",
        "rank": 0,
        "world_size": 2,
        "model": "mlx-community/Tiny-8bit",
        "gpu_memory_gb": 1.7,
        "parallel": "pipeline",
        "pipeline": "allreduce",
        "distributed": True,
        "batched": True,
    }
    assert expected.items() <= health.items()
    assert [rank["layers"] for rank in health["ranks"]] == [[0, 13], [14, 27]]
    assert health["ranks"][1]["host"] == "mini-2"
    assert health["ranks"][1]["memory_gb"] == 1.6
    assert health["ranks"][1]["tokens_per_second"] == 21.3


async def test_a_model_whose_sequences_run_one_after_another_is_told(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    engine.become_ready(batched=False)
    assert (await http.get("/health")).json()["batched"] is False


@pytest.mark.parametrize("missing", ["", "rank 1 (192.168.5.2)"])
async def test_while_the_model_loads_all_is_503(
    serve: Serve, engine: ScriptedEngine, settings: Settings, missing: str
) -> None:
    async with serve(settings) as base, httpx.AsyncClient(base_url=base) as http:
        await _is_unready(http, "loading", "starting")
        engine.connect(missing)
        engine.client.receive(messages.Progress("downloading", "3 of 7 GB"))
        await _is_unready(http, "loading", "downloading 3 of 7 GB")
        engine.become_ready()
        await _is_unready(http, "loading", "the tokenizer is being loaded")


async def test_a_lost_engine_is_degraded_with_its_reason(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.client.close("rank 1 fell silent")
    await _is_unready(http, "degraded", "rank 1 fell silent")
    engine.connect()
    engine.become_ready()
    assert (await http.get("/health")).json()["status"] == "healthy"


async def test_without_a_rank_requests_are_answered_while_health_is_degraded(
    http: httpx.AsyncClient, client: AsyncOpenAI, engine: ScriptedEngine
) -> None:
    engine.client.lost("rank 1 fell silent")
    assert (await http.get("/health")).json()["serving"]
    engine.connect("rank 1 (192.168.5.2)")
    engine.become_ready()
    answer = await http.get("/health")
    assert (answer.status_code, answer.json()["status"], answer.json()["serving"]) == (503, "degraded", True)
    assert answer.json()["reason"] == "the model is served without rank 1 (192.168.5.2)"
    messages = [{"role": "user", "content": "Hi"}]
    answered = await client.chat.completions.create(model="tiny", messages=messages)  # type: ignore[arg-type]
    assert answered.choices[0].finish_reason == "stop"


async def test_a_tokenizer_that_cannot_be_loaded_is_told_to_all(
    serve: Serve, engine: ScriptedEngine, settings: Settings, tmp_path: Path
) -> None:
    errors: list[UserError] = []
    async with serve(settings, failed=errors.append) as base, httpx.AsyncClient(base_url=base) as http:
        engine.connect()
        engine.find_model(tmp_path)
        engine.become_ready()
        while not errors:
            await http.get("/health")
        await _is_unready(http, "degraded", str(errors[0]))


async def test_one_machine_alone_relays_nothing(serve: Serve) -> None:
    async with serve(Settings(place=Place())) as base, httpx.AsyncClient(base_url=base) as http:
        health = (await http.get("/health")).json()
    assert (health["pipeline"], health["distributed"], health["world_size"]) == ("none", False, 1)


async def test_the_models_are_the_one(client: AsyncOpenAI) -> None:
    [model] = (await client.models.list()).data
    assert (model.id, model.object) == ("mlx-community/Tiny-8bit", "model")
    assert (await client.models.retrieve("mlx-community/Tiny-8bit")).id == model.id
    assert (await client.models.retrieve("Tiny-8bit")).id == model.id


async def _is_unready(http: httpx.AsyncClient, status: str, reason: str) -> None:
    health = await http.get("/health")
    assert health.status_code == 503
    assert (health.json()["status"], health.json()["reason"]) == (status, reason)
    body = {"messages": [{"role": "user", "content": "Hi"}], "stream": True}
    answer = await http.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_not_ready")
    assert answer.headers["retry-after"]
    assert reason in answer.json()["error"]["message"]
