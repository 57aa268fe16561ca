"""GET /requests, and who ends one."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import anthropic
import httpx
import openai
import pytest
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from mlxserve.config import Place, Settings
from mlxserve.engine.messages import Reading, Step

from ..scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

HI: Any = [{"role": "user", "content": "Hi, how are you?"}]
BODY = {"messages": HI}


async def listed(http: httpx.AsyncClient) -> dict[str, list[dict[str, Any]]]:
    return dict((await http.get("/requests")).json())


async def test_an_open_request_shows_how_far_it_is(http: httpx.AsyncClient, engine: ScriptedEngine, plain: Any) -> None:
    engine.script = None
    asking = asyncio.create_task(http.post("/v1/chat/completions", json=BODY | {"max_tokens": 50}))
    submitted = await engine.submitted.get()
    total = len(submitted.prompt)
    [request] = (await listed(http))["open"]
    assert (request["endpoint"], request["client"]) == ("/v1/chat/completions", "127.0.0.1")
    assert request["state"] == "waiting"
    assert (request["prompt_tokens"], request["max_tokens"], request["completion_tokens"]) == (total, 50, 0)
    engine.client.receive(Step([], [Reading(submitted.id, 5, total, 3)]))
    await asyncio.sleep(0)
    [request] = (await listed(http))["open"]
    assert (request["state"], request["prompt_tokens_read"], request["cached_tokens"]) == ("reading", 5, 3)
    engine.say(submitted.id, *plain.encode("ab"))
    await asyncio.sleep(0)
    [request] = (await listed(http))["open"]
    assert request["state"] == "writing"
    assert request["completion_tokens"] > 0
    engine.say(submitted.id, 2, finish="stop")
    answer = await asking
    told = await listed(http)
    [past] = told["recent"]
    assert told["open"] == []
    assert past["id"] == request["id"] == answer.headers["x-request-id"]
    assert (past["status"], past["finish"], past["error"]) == (200, "stop", "")
    assert past["ttft"] <= past["seconds"]


async def test_the_last_hundred_are_kept_the_newest_first(http: httpx.AsyncClient) -> None:
    for number in range(103):
        await http.post("/v1/completions", json={"prompt": "a"}, headers={"x-request-id": f"mine-{number}"})
    recent = (await listed(http))["recent"]
    assert [one["id"] for one in recent] == [f"mine-{number}" for number in range(102, 2, -1)]


async def test_a_refused_request_is_listed_with_its_reason(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    await http.post("/v1/chat/completions", json={"messages": []})
    await http.get("/v1/nothing")
    engine.client.close("rank 1 fell silent")
    await http.post("/v1/messages", json={"model": "x", "max_tokens": 5, "messages": HI})
    latest, first = (await listed(http))["recent"]
    assert (first["status"], first["endpoint"]) == (400, "/v1/chat/completions")
    assert "messages" in first["error"]
    assert (latest["status"], latest["endpoint"]) == (503, "/v1/messages")
    assert "rank 1 fell silent" in latest["error"]
    assert (await http.get("/traffic")).json()["totals"]["failed"] == 2


async def test_a_cancelled_stream_ends_with_an_error_and_frees_its_place(
    http: httpx.AsyncClient, client: AsyncOpenAI, engine: ScriptedEngine, plain: Any
) -> None:
    engine.script = None
    asking = asyncio.create_task(client.chat.completions.create(model="", messages=HI, stream=True))
    submitted = await engine.submitted.get()
    engine.say(submitted.id, *plain.encode("and so"))
    chunks = aiter(await asking)
    await anext(chunks)
    [request] = (await listed(http))["open"]
    assert (await http.post(f"/requests/{request['id']}/cancel")).json() == {"cancelled": True}
    assert await asyncio.wait_for(engine.cancelled.get(), 5) == submitted.id
    with pytest.raises(openai.APIError, match="was cancelled") as raised:
        [chunk async for chunk in chunks]
    assert raised.value.code == "cancelled"
    told = await listed(http)
    assert (told["open"], told["recent"][0]["status"], told["recent"][0]["finish"]) == ([], 410, "abort")
    assert engine.client.open_sequences == 0
    assert engine.cancelled.empty()
    assert (await http.post(f"/requests/{request['id']}/cancel")).status_code == 404


async def test_a_cancelled_request_is_410_so_that_no_client_tries_it_again(
    http: httpx.AsyncClient, engine: ScriptedEngine, claude: AsyncAnthropic
) -> None:
    engine.script = None
    asking = [
        asyncio.create_task(http.post("/v1/completions", json={"prompt": ["a", "b"], "n": 2})),
        asyncio.create_task(http.post("/v1/responses", json={"input": "Hi"})),
        asyncio.create_task(claude.messages.create(model="x", max_tokens=5, messages=HI)),
    ]
    for _ in range(6):
        await engine.submitted.get()
    for request in (await listed(http))["open"]:
        await http.post(f"/v1/requests/{request['id']}/cancel")
    completion, response = await asking[0], await asking[1]
    assert (completion.status_code, completion.json()["error"]["code"]) == (410, "cancelled")
    assert (response.status_code, response.json()["error"]["code"]) == (410, "cancelled")
    with pytest.raises(anthropic.APIStatusError, match="was cancelled"):
        await asking[2]
    assert engine.cancelled.qsize() == 6


async def test_a_cancelled_response_fails_by_that_name(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.script = None
    asking = asyncio.create_task(http.post("/v1/responses", json={"input": "Hi", "stream": True}))
    await engine.submitted.get()
    [request] = (await listed(http))["open"]
    await http.post(f"/requests/{request['id']}/cancel")
    events = (await asking).text
    assert '"type":"response.failed"' in events
    assert '"code":"cancelled"' in events


async def test_a_request_is_called_what_its_client_calls_it(
    http: httpx.AsyncClient, engine: ScriptedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "mlxserve.api")
    answer = await http.post("/v1/chat/completions", json=BODY, headers={"X-Request-Id": "trace-7"})
    assert answer.headers["x-request-id"] == "trace-7"
    assert caplog.records[-1].getMessage().startswith("trace-7 /v1/chat/completions client=127.0.0.1 status=200 ")
    for nonsense in ("", "a b", "x" * 65, "<script>", "-n"):
        answer = await http.get("/livez", headers={"X-Request-Id": nonsense})
        assert answer.headers["x-request-id"].startswith("r-")


async def test_two_open_requests_never_have_one_name(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    engine.script = None
    asking = [
        asyncio.create_task(http.post("/v1/chat/completions", json=BODY, headers={"X-Request-Id": "same"}))
        for _ in range(3)
    ]
    for _ in asking:
        await engine.submitted.get()
    names = [request["id"] for request in (await listed(http))["open"]]
    assert len(set(names)) == 3
    for name in names:
        assert (await http.post(f"/requests/{name}/cancel")).status_code == 200
    assert sorted([(await one).headers["x-request-id"] for one in asking]) == sorted(names)


async def test_prompts_are_not_shown(http: httpx.AsyncClient, engine: ScriptedEngine) -> None:
    await http.post("/v1/chat/completions", json=BODY)
    text = (await http.get("/requests")).text
    assert "how are" not in text
    assert "prompt" not in (await listed(http))["recent"][0]


@pytest.mark.parametrize("settings", [Settings(model="x", place=Place(), log_prompts=True)])
async def test_the_end_of_prompts_is_shown_where_that_is_asked_for(http: httpx.AsyncClient) -> None:
    await http.post("/v1/completions", json={"prompt": "x" * 500 + " at the end"})
    [past] = (await listed(http))["recent"]
    assert past["prompt"].endswith("x at the end")
    assert len(past["prompt"]) <= 200


@pytest.mark.parametrize("settings", [Settings(model="x", api_keys=("sk-secret",))])
async def test_a_client_with_a_key_is_shown_by_its_digest(http: httpx.AsyncClient) -> None:
    http.headers["x-api-key"] = "sk-secret"
    await http.post("/v1/chat/completions", json=BODY)
    [past] = (await listed(http))["recent"]
    assert past["client"].startswith("key ")
    assert "sk-secret" not in (await http.get("/requests")).text


async def test_a_response_made_in_the_background_is_open_until_it_is_made(
    http: httpx.AsyncClient, engine: ScriptedEngine
) -> None:
    engine.script = None
    await http.post("/v1/responses", json={"input": "Hi", "background": True})
    submitted = await engine.submitted.get()
    assert [one["endpoint"] for one in (await listed(http))["open"]] == ["/v1/responses"]
    engine.say(submitted.id, 2, finish="stop")
    while (await listed(http))["open"]:
        pass
    assert (await listed(http))["recent"][0]["status"] == 200
