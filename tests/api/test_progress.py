"""`return_progress`, as llama-server has it: a stream tells how far its prompt is read."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from mlxserve.engine.messages import Reading, Step

from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

ASKED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi, how are you?"},
}


async def chunks(http: httpx.AsyncClient, engine: ScriptedEngine, path: str, **fields: Any) -> list[dict[str, Any]]:
    """Those of a stream whose prompt is read in two parts, behind two tokens of the cache."""
    engine.script = None
    asking = asyncio.create_task(http.post(path, json=ASKED[path] | {"stream": True} | fields))
    submitted = await engine.submitted.get()
    total = len(submitted.prompt)
    engine.client.receive(Step([], [Reading(submitted.id, 5, total, 2)]))
    engine.client.receive(Step([], [Reading(submitted.id, total, total)]))
    engine.say(submitted.id, 40, 2, finish="stop")
    lines = (await asking).text.split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]


@pytest.mark.parametrize("path", ASKED)
async def test_chunks_with_progress_come_before_the_answer(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    told = await chunks(http, engine, path, return_progress=True)
    progress = [chunk["prompt_progress"] for chunk in told if "prompt_progress" in chunk]
    assert [(one["cache"], one["processed"]) for one in progress] == [(2, 5), (2, progress[0]["total"])]
    assert all(set(one) == {"total", "cache", "processed", "time_ms"} and one["time_ms"] >= 0 for one in progress)
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in told if "prompt_progress" in chunk)


@pytest.mark.parametrize("path", ASKED)
@pytest.mark.parametrize("fields", [{}, {"return_progress": False}])
async def test_without_it_there_is_none(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str, fields: dict[str, Any]
) -> None:
    assert not [chunk for chunk in await chunks(http, engine, path, **fields) if "prompt_progress" in chunk]


@pytest.mark.parametrize("path", ASKED)
async def test_an_answer_that_is_not_streamed_is_as_ever(
    http: httpx.AsyncClient, engine: ScriptedEngine, path: str
) -> None:
    answer = (await http.post(path, json=ASKED[path] | {"return_progress": True})).json()
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert "prompt_progress" not in answer
