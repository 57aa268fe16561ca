"""GET /traffic: what the page shows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from mlxserve.config import Place, Settings
from mlxserve.engine import messages
from mlxserve.engine.messages import Figures, LinkFacts, MemoryFacts, Reading, Step, Sums

from ..conftest import Serve
from ..scripted_engine import RANKS, ScriptedEngine

pytestmark = pytest.mark.anyio

BODY = {"messages": [{"role": "user", "content": "Hi"}]}


async def traffic(http: httpx.AsyncClient) -> dict[str, Any]:
    return dict((await http.get("/traffic")).json())


async def test_each_rank_shows_its_memory_and_its_link(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    memory = MemoryFacts(weights=5, kv=4, prefix=3, cache=2, free=10, total=100)
    engine.client.receive(
        Figures(
            [
                msgspec.structs.replace(
                    RANKS[0], expected_seconds=0.012, memory=memory, link=LinkFacts(1, 0.0004, 8000.0)
                ),
                RANKS[1],
            ]
        )
    )
    told = await traffic(http)
    assert told["status"]["status"] == "healthy"
    assert told["layers"] == 28
    assert told["ranks"][0] == {
        "rank": 0,
        "host": "mini-1",
        "device": "M4",
        "pid": 11,
        "layers": [0, 13],
        "expected_seconds": 0.012,
        "memory": {"weights": 5, "kv": 4, "prefix": 3, "cache": 2, "free": 10, "total": 100},
        "busy": 0.5,
        "tokens_per_second": 21.3,
        "link": {"to": 1, "latency": 0.0004, "bytes_per_second": 8000.0},
        "progress": "",
    }
    assert told["ranks"][1]["expected_seconds"] is None
    assert told["ranks"][1]["link"] == {"to": None, "latency": None, "bytes_per_second": 0.0}


async def test_while_the_model_loads_each_rank_tells_what_it_does(
    serve: Serve, engine: ScriptedEngine, settings: Settings
) -> None:
    async with serve(settings) as base, httpx.AsyncClient(base_url=base) as http:
        assert [rank["progress"] for rank in (await traffic(http))["ranks"]] == ["waiting", "waiting"]
        engine.connect()
        engine.client.receive(messages.Progress("forming", "rank 0 of 2 joins the others"))
        assert [rank["host"] for rank in (await traffic(http))["ranks"]] == ["", ""]
        assert (await traffic(http))["ranks"][1]["progress"] == "rank 0 of 2 joins the others"
        unloaded = [msgspec.structs.replace(rank, first_layer=0, last_layer=-1) for rank in RANKS]
        engine.client.receive(messages.Introduced(unloaded))
        engine.client.receive(messages.Progress("loading", "3 of 7 GB"))
        engine.client.receive(messages.Progress("loading", "rank 1 (mini-2): 4 of 7 GB", 1, "4 of 7 GB"))
        told = await traffic(http)
        engine.client.receive(messages.Progress("warming", "the first pass through all layers"))
        warming = [rank["progress"] for rank in (await traffic(http))["ranks"]]
    assert warming == ["the first pass through all layers"] * 2
    assert [(rank["host"], rank["layers"], rank["progress"]) for rank in told["ranks"]] == [
        ("mini-1", [0, -1], "loading 3 of 7 GB"),
        ("mini-2", [0, -1], "loading 4 of 7 GB"),
    ]
    assert (told["status"]["status"], told["layers"]) == ("loading", 0)


async def test_a_rank_that_is_gone_is_shown_no_more_as_if_it_worked(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    engine.client.lost("rank 1 fell silent")
    told = await traffic(http)
    assert told["status"]["status"] == "recovering"
    assert [(rank["pid"], rank["progress"]) for rank in told["ranks"]] == [(0, "waiting"), (0, "waiting")]
    engine.connect()
    engine.become_ready()
    told = await traffic(http)
    assert [rank["pid"] for rank in told["ranks"]] == [11, 12]
    assert told["totals"]["engine_restarts"] == 1


async def test_a_planned_rank_that_is_not_there_is_missing(serve: Serve, engine: ScriptedEngine, folder: Path) -> None:
    settings = Settings(model="x", place=Place(0, 3, addresses=("10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1")))
    async with serve(settings) as base, httpx.AsyncClient(base_url=base) as http:
        engine.connect("rank 2 (10.0.0.3)")
        engine.become_ready()
        ranks = (await traffic(http))["ranks"]
    assert [(rank["host"], rank["progress"]) for rank in ranks] == [
        ("mini-1", ""),
        ("mini-2", ""),
        ("10.0.0.3", "missing"),
    ]


async def test_requests_are_counted_while_they_run_and_after(
    http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = None
    asking = asyncio.create_task(http.post("/v1/chat/completions", json=BODY))
    submitted = await engine.submitted.get()
    total = len(submitted.prompt)
    told = await traffic(http)
    assert (told["waiting"], told["running"]) == (1, 0)
    engine.client.receive(Step([], [Reading(submitted.id, total - 1, total, 2)]))
    await asyncio.sleep(0)
    told = await traffic(http)
    assert (told["waiting"], told["running"], told["totals"]["prompt_tokens"]) == (0, 1, total - 1)
    engine.client.receive(Step([], [Reading(submitted.id, total, total)]))
    tokens = plain.encode("Hello")
    engine.say(submitted.id, *tokens, 2, finish="stop")
    completed = (await asking).json()["usage"]
    totals = (await traffic(http))["totals"]
    assert (totals["requests"], totals["failed"]) == (1, 0)
    assert totals["prompt_tokens"] == completed["prompt_tokens"] == total
    assert totals["cached_tokens"] == 2
    assert totals["generated_tokens"] == completed["completion_tokens"]


async def test_what_a_lost_engine_did_stays_counted(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.client.receive(Figures(RANKS, Sums(prefix_asked=10, prefix_found=4, drafted=6, accepted=3, put_backs=1)))
    engine.client.lost("rank 1 fell silent")
    engine.connect()
    engine.become_ready()
    sums = Sums(prefix_asked=5, decode_steps=7, decode_rows=14, chunks=1, chunk_tokens=9)
    engine.client.receive(Figures(RANKS, sums))
    told = await traffic(http)
    totals = told["totals"]
    assert (totals["prefix_queries"], totals["prefix_hits"]) == (15, 4)
    assert (totals["draft_tokens"], totals["accepted_tokens"], totals["preemptions"]) == (6, 3, 1)
    assert told["flow"] == {"chunks": 1, "chunk_tokens": 9, "decode_steps": 7, "decode_rows": 14}


async def test_the_plots_are_there_and_the_day_may_be_left_out(http: httpx.AsyncClient) -> None:
    await http.post("/v1/chat/completions", json=BODY)
    told = await traffic(http)
    assert (told["minutes"]["step"], told["day"]["step"]) == (2, 300)
    lengths = {len(values) for name, values in told["minutes"].items() if name != "step"}
    assert len(lengths) == 1
    assert "day" not in (await http.get("/v1/traffic?day=0")).json()


@pytest.mark.parametrize("settings", [Settings(model="x", api_keys=("sk-one",))])
async def test_nobody_without_a_key_sees_any_of_it(http: httpx.AsyncClient) -> None:
    for path in ("/traffic", "/requests", "/metrics"):
        assert (await http.get(path)).status_code == 401
        assert (await http.get(path, headers={"x-api-key": "sk-one"})).status_code == 200
