"""GET /metrics, as Prometheus reads it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from mlxserve.api.endpoints import ENDPOINTS
from mlxserve.api.traffic.account import ENDPOINTS as GENERATING
from mlxserve.engine.messages import Figures, Reading, Step, Sums

from ..scripted_engine import RANKS, ScriptedEngine

pytestmark = pytest.mark.anyio

BODY: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
DASHBOARD = Path(__file__).parents[3] / "grafana" / "mlxserve.json"
TOTALS = {
    "requests": "mlxserve:requests_total",
    "failed": "mlxserve:requests_failed_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "cached_tokens": "mlxserve:cached_prompt_tokens_total",
    "generated_tokens": "vllm:generation_tokens_total",
    "prefix_queries": "vllm:prefix_cache_queries_total",
    "prefix_hits": "vllm:prefix_cache_hits_total",
    "draft_tokens": "vllm:spec_decode_num_draft_tokens_total",
    "accepted_tokens": "vllm:spec_decode_num_accepted_tokens_total",
    "preemptions": "vllm:num_preemptions_total",
    "engine_restarts": "mlxserve:engine_restarts_total",
}


async def samples(http: httpx.AsyncClient) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """All values by name and labels, but for the model's name, which all have."""
    found = {}
    for family in text_string_to_metric_families((await http.get("/metrics")).text):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "model_name"}
            assert sample.labels["model_name"] == "mlx-community/Tiny-8bit"
            found[sample.name, tuple(sorted(labels.items()))] = sample.value
    return found


async def summed(http: httpx.AsyncClient) -> dict[str, float]:
    """All values by name, those of different labels together."""
    sums: dict[str, float] = {}
    for (name, _), value in (await samples(http)).items():
        sums[name] = sums.get(name, 0) + value
    return sums


async def busy(http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any) -> None:
    """Some of everything has happened."""
    engine.script = plain.encode("The capital of France is Paris.")
    engine.cached = [3]
    await http.post("/v1/chat/completions", json=BODY)
    await http.post("/v1/chat/completions", json=BODY | {"n": 2, "max_tokens": 3})
    await http.post("/v1/messages", json={"model": "x", "max_tokens": 5, "messages": BODY["messages"], "stream": True})
    await http.post("/v1/completions", json={})
    sums = Sums(100, 40, 30, 20, decode_steps=10, decode_rows=25, chunks=4, chunk_tokens=99, put_backs=2)
    engine.client.receive(Figures(RANKS, sums, 0.25))
    while not engine.submitted.empty():
        engine.submitted.get_nowait()


async def test_it_is_what_prometheus_reads_in_both_of_its_formats(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    await busy(http, engine, plain)
    answer = await http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert len(list(text_string_to_metric_families(answer.text))) > 20
    modern = await http.get("/v1/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert modern.headers["content-type"].startswith("application/openmetrics-text")
    assert len(list(openmetrics.text_string_to_metric_families(modern.text))) > 20


async def test_its_numbers_are_those_of_traffic(http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any) -> None:
    await busy(http, engine, plain)
    totals, sums = (await http.get("/traffic")).json()["totals"], await summed(http)
    assert {name: sums[metric] for name, metric in TOTALS.items()} == totals
    assert (totals["requests"], totals["failed"], totals["cached_tokens"]) == (4, 1, 3)
    assert totals["generated_tokens"] > 10


async def test_vllms_names_mean_what_they_mean_there(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    await busy(http, engine, plain)
    engine.script = None
    asking = asyncio.create_task(http.post("/v1/chat/completions", json=BODY))
    submitted = await engine.submitted.get()
    told = await samples(http)
    assert told["vllm:num_requests_waiting", ()] == 1
    assert told["vllm:num_requests_running", ()] == 0
    assert told["vllm:kv_cache_usage_perc", ()] == 0.25
    assert told["vllm:request_success_total", (("finished_reason", "stop"),)] == 1
    assert told["vllm:request_success_total", (("finished_reason", "length"),)] == 2
    assert told["vllm:request_success_total", (("finished_reason", "abort"),)] == 0
    assert told["vllm:time_to_first_token_seconds_count", ()] == 3
    assert told["vllm:e2e_request_latency_seconds_count", ()] == 3
    assert told["vllm:request_queue_time_seconds_count", ()] == 3
    engine.say(submitted.id, *plain.encode("a"))
    await asyncio.sleep(0.02)
    engine.say(submitted.id, *plain.encode("b"))
    await asyncio.sleep(0.02)
    engine.say(submitted.id, 2, finish="stop")
    await asking
    told = await samples(http)
    assert told["vllm:inter_token_latency_seconds_count", ()] >= 2
    assert told["vllm:inter_token_latency_seconds_sum", ()] > 0.03


async def test_ranks_and_status_have_names_of_our_own(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    told = await samples(http)
    assert told["mlxserve:status", (("status", "healthy"),)] == 1
    assert told["mlxserve:status", (("status", "degraded"),)] == 0
    assert told["mlxserve:rank_busy_ratio", (("host", "mini-1"), ("rank", "0"))] == 0.5
    assert told["mlxserve:rank_up", (("host", "mini-2"), ("rank", "1"))] == 1
    engine.client.lost("rank 1 fell silent")
    assert (await samples(http))["mlxserve:status", (("status", "recovering"),)] == 1


async def test_the_time_in_the_queue_ends_when_the_engine_begins_to_read(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    engine.script = None
    asking = asyncio.create_task(http.post("/v1/chat/completions", json=BODY))
    submitted = await engine.submitted.get()
    began, total = time.perf_counter(), len(submitted.prompt)
    await asyncio.sleep(0.1)
    engine.client.receive(Step([], [Reading(submitted.id, total, total, 0, began)]))
    engine.say(submitted.id, 2, finish="stop")
    await asking
    told = await samples(http)
    assert told["vllm:request_queue_time_seconds_sum", ()] < 0.1 < told["vllm:time_to_first_token_seconds_sum", ()]


def test_all_addresses_where_answers_are_generated_are_in_the_account() -> None:
    assert {f"/v1{one.path}" for one in ENDPOINTS if one.streams and one.method == "POST"} == GENERATING


async def test_clients_cannot_make_it_longer(http: httpx.AsyncClient) -> None:
    before = len(await samples(http))
    for number in range(20):
        await http.post(f"/v1/nothing-{number}", json=BODY | {"model": f"m{number}"})
        await http.post("/v1/chat/completions", json=BODY | {"model": f"m{number}", "user": f"u{number}"})
    assert len(await samples(http)) == before + 1


async def test_the_dashboard_asks_for_nothing_that_is_not_there(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    await busy(http, engine, plain)
    known = {name for name, _ in await samples(http)}
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = {
        name
        for panel in panels
        for target in panel.get("targets", [])
        for name in re.findall(r"(?:vllm|mlxserve):\w+", target["expr"])
    }
    assert len(asked) > 15
    assert asked <= known
