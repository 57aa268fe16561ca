"""How many may wait, and what the others are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest

from mlxserve.api.errors import ApiError
from mlxserve.api.serving import Serving
from mlxserve.config import Place, Settings
from mlxserve.text.generation import Task
from mlxserve.text.tokenizer import load_tokenizer

from .conftest import Serve
from .scripted_engine import ScriptedEngine

pytestmark = pytest.mark.anyio

HI: Any = [{"role": "user", "content": "Hi"}]
AT_ONCE, WAITING = 2, 3


@pytest.fixture
def settings() -> Settings:
    return Settings(model="tiny", place=Place(0, 2), decode_concurrency=AT_ONCE, max_queue=WAITING)


@pytest.fixture
async def asking(client: openai.AsyncOpenAI, engine: ScriptedEngine) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """As many open requests as are taken on."""
    engine.script = None
    tasks = [_ask(client) for _ in range(AT_ONCE + WAITING)]
    for _ in tasks:
        await engine.submitted.get()
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _ask(client: openai.AsyncOpenAI, **more: Any) -> asyncio.Task[Any]:
    return asyncio.ensure_future(client.chat.completions.create(model="", messages=HI, **more))


@pytest.mark.usefixtures("asking")
@pytest.mark.parametrize("stream", [False, True])
async def test_one_more_than_may_wait_is_refused(client: openai.AsyncOpenAI, stream: bool) -> None:
    with pytest.raises(openai.RateLimitError, match="3 answers wait") as raised:
        await _ask(client, stream=stream)
    assert raised.value.response.headers["Retry-After"]
    assert raised.value.code == "queue_full"
    with pytest.raises(openai.RateLimitError):
        await client.completions.create(model="", prompt="Hi", stream=stream)


@pytest.mark.usefixtures("asking")
async def test_the_refusal_in_anthropics_shape(claude: anthropic.AsyncAnthropic) -> None:
    with pytest.raises(anthropic.RateLimitError) as raised:
        await claude.messages.create(model="", messages=HI, max_tokens=5)
    assert raised.value.type == "rate_limit_error"


async def test_whoever_leaves_makes_room(
    client: openai.AsyncOpenAI, engine: ScriptedEngine, asking: list[asyncio.Task[Any]]
) -> None:
    asking[0].cancel()
    await engine.cancelled.get()
    engine.script = [65]
    assert (await _ask(client)).choices[0].message.content


async def test_an_answer_that_ends_makes_room(
    client: openai.AsyncOpenAI, engine: ScriptedEngine, asking: list[asyncio.Task[Any]]
) -> None:
    engine.say(1, 65, finish="length")
    await asking[0]
    engine.script = [65]
    assert (await _ask(client)).choices[0].message.content


async def test_a_request_for_more_answers_than_may_wait_is_taken_on(
    client: openai.AsyncOpenAI, engine: ScriptedEngine
) -> None:
    engine.script = [65]
    answer = await client.chat.completions.create(model="", messages=HI, n=2 * (AT_ONCE + WAITING))
    assert len(answer.choices) == 2 * (AT_ONCE + WAITING)


@pytest.mark.usefixtures("asking")
async def test_where_the_group_is_lost_one_more_than_may_wait_is_503(
    client: openai.AsyncOpenAI, engine: ScriptedEngine
) -> None:
    engine.client.lost("rank 1 fell silent")
    with pytest.raises(openai.InternalServerError, match="rank 1 fell silent") as raised:
        await _ask(client)
    assert raised.value.status_code == 503
    assert raised.value.response.headers["Retry-After"]


async def test_who_may_wait_for_a_lost_group_gets_an_answer(client: openai.AsyncOpenAI, engine: ScriptedEngine) -> None:
    engine.script = [65]
    engine.client.lost("rank 1 fell silent")
    asking = _ask(client)
    while not engine.client.open_sequences:
        await asyncio.sleep(0)
    engine.connect()
    engine.become_ready()
    assert (await asking).choices[0].message.content


async def test_the_node_is_alive_whatever_becomes_of_the_model(serve: Serve, settings: Settings, folder: Path) -> None:
    async with serve(settings) as base, httpx.AsyncClient(base_url=base) as http:
        assert (await http.get("/health")).status_code == 503
        answer = await http.get("/livez")
        assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


@pytest.fixture
async def newcomer(base: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """A client at another address than the one that `asking` comes from."""
    async with _client_at(base, "127.0.0.2") as client:
        yield client


def _client_at(base: str, address: str) -> openai.AsyncOpenAI:
    http = httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(local_address=address))
    return openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="none", max_retries=0, http_client=http)


@pytest.mark.usefixtures("asking")
async def test_who_has_nothing_here_is_taken_on_although_another_has_filled_the_queue(
    newcomer: openai.AsyncOpenAI, client: openai.AsyncOpenAI, engine: ScriptedEngine
) -> None:
    waiting = _ask(newcomer)
    number = (await engine.submitted.get()).id
    for refused in (newcomer, client):
        with pytest.raises(openai.RateLimitError, match="4 answers wait"):
            await _ask(refused)
    engine.say(number, 65, finish="length")
    assert (await waiting).choices[0].message.content
    engine.script = [65]
    assert (await _ask(newcomer)).choices[0].message.content, "it has nothing here again"


@pytest.mark.usefixtures("asking")
async def test_twice_as_many_are_the_most_whoever_comes(base: str, engine: ScriptedEngine) -> None:
    clients = [_client_at(base, f"127.0.0.{number}") for number in range(2, 3 + WAITING)]
    waiting = [_ask(client) for client in clients[:WAITING]]
    for _ in waiting:
        await engine.submitted.get()
    with pytest.raises(openai.RateLimitError, match=f"{2 * WAITING} answers wait"):
        await _ask(clients[-1])
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    for client in clients:
        await client.close()


@pytest.mark.parametrize("settings", [Settings(model="tiny", place=Place(0, 2), decode_concurrency=1, max_queue=0)])
async def test_without_a_queue_nothing_waits_whoever_comes(
    newcomer: openai.AsyncOpenAI, client: openai.AsyncOpenAI, engine: ScriptedEngine
) -> None:
    engine.script = None
    running = _ask(client)
    number = (await engine.submitted.get()).id
    with pytest.raises(openai.RateLimitError):
        await _ask(newcomer)
    engine.say(number, 65, finish="length")
    await running


async def test_answers_that_are_complete_and_only_not_read_keep_nobody_out(
    engine: ScriptedEngine, settings: Settings, folder: Path
) -> None:
    serving = Serving(engine.client, settings, 1.0, 2**20)
    serving.tokenizer = load_tokenizer(folder)
    engine.connect()
    engine.become_ready()
    engine.script = None
    answers = []
    for _ in range(AT_ONCE + WAITING):
        tokenizer, _ready = serving.require_room("one")
        answers.append(serving.generation(tokenizer, Task([1, 2], max_tokens=5, client="one")).pieces())
        first = asyncio.ensure_future(anext(answers[-1]))
        number = (await engine.submitted.get()).id
        engine.say(number, 65)
        await first
    with pytest.raises(ApiError):
        serving.require_room("one")
    for number in range(1, 1 + len(answers)):
        engine.say(number, 66, finish="length")
    assert serving.require_room("one")
    for answer in answers:
        assert [piece async for piece in answer]
