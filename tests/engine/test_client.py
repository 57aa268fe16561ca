"""What becomes of open sequences when engines are lost and come back."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from mlxserve.engine import client as client_module
from mlxserve.engine.client import EngineClient, Generated
from mlxserve.engine.messages import (
    Cancel,
    Command,
    Figures,
    Likelihood,
    NewToken,
    Progress,
    PromptLikelihoods,
    RankFacts,
    Ready,
    Sampling,
    Step,
    Submit,
)
from mlxserve.errors import EngineNotReady

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Engine:
    """What one engine process is sent, and what it says."""

    def __init__(self, client: EngineClient, members: tuple[int, ...] = (), missing: str = "") -> None:
        self._client = client
        self.commands: list[Command] = []
        client.connected(self.commands.append, members, missing)

    def ready(self) -> Engine:
        self._client.receive(Ready("qwen3", 320, 1000, "ring", 28, True, True, []))
        return self

    def say(self, number: int, *tokens: int, last: bool = False) -> None:
        for index, token in enumerate(tokens):
            finish = "stop" if last and index == len(tokens) - 1 else None
            self._client.receive(Step([NewToken(number, token, finish)], []))

    @property
    def submitted(self) -> list[Submit]:
        return [command for command in self.commands if isinstance(command, Submit)]


def _asked(client: EngineClient, **wanted: Any) -> asyncio.Task[list[Any]]:
    """Somebody who takes all events of a sequence."""

    async def take() -> list[Any]:
        return [event async for event in client.generate([1, 2], Sampling(7), 10, [0], **wanted)]

    return asyncio.ensure_future(take())


def _tokens(events: list[Any]) -> list[int]:
    return [token for event in events if isinstance(event, Generated) for token in event.tokens]


async def test_the_next_engine_goes_on_where_the_lost_one_stopped() -> None:
    client = EngineClient()
    first = Engine(client).ready()
    asking = _asked(client)
    await asyncio.sleep(0)
    first.say(1, 11, 12)
    client.lost("rank 1 fell silent")
    assert client.health.status == "recovering"
    second = Engine(client)
    assert not second.commands
    second.ready()
    (submit,) = second.submitted
    assert submit.answered == [11, 12]
    second.say(1, 13, 14, last=True)
    assert _tokens(await asking) == [11, 12, 13, 14]


async def test_an_engine_may_be_lost_again_and_again() -> None:
    client = EngineClient()
    engine = Engine(client).ready()
    asking = _asked(client)
    await asyncio.sleep(0)
    for token in range(11, 15):
        engine.say(1, token)
        client.lost("rank 1 fell silent")
        engine = Engine(client).ready()
    engine.say(1, 15, last=True)
    assert _tokens(await asking) == [11, 12, 13, 14, 15]


async def test_who_comes_while_the_group_forms_again_waits() -> None:
    client = EngineClient()
    Engine(client).ready()
    client.lost("rank 1 fell silent")
    asking = _asked(client)
    await asyncio.sleep(0)
    second = Engine(client).ready()
    assert [submit.answered for submit in second.submitted] == [[]]
    second.say(1, 11, last=True)
    assert _tokens(await asking) == [11]


async def test_the_likelihoods_of_a_prompt_are_told_once() -> None:
    client = EngineClient()
    Engine(client).ready()
    asking = _asked(client, prompt_logprobs=True)
    await asyncio.sleep(0)
    told = [Likelihood(-1.0 * number) for number in range(4)]
    client.receive(Step([], [], [PromptLikelihoods(1, told[:3])]))
    client.lost("rank 1 fell silent")
    second = Engine(client).ready()
    client.receive(Step([], [], [PromptLikelihoods(1, told[:2])]))
    client.receive(Step([], [], [PromptLikelihoods(1, told[2:])]))
    second.say(1, 11, last=True)
    events = await asking
    assert [one for event in events if isinstance(event, PromptLikelihoods) for one in event.likelihoods] == told


async def test_after_too_long_all_are_told_and_nobody_new_is_taken_on() -> None:
    client = EngineClient(recover_seconds=0.0)
    Engine(client).ready()
    asking = _asked(client)
    await asyncio.sleep(0)
    client.lost("rank 1 fell silent")
    with pytest.raises(EngineNotReady, match="rank 1 fell silent; no group has formed within 0 s"):
        await asking
    with pytest.raises(EngineNotReady):
        await _asked(client)
    Engine(client).ready()
    assert client.health.status == "healthy"


async def test_who_leaves_while_the_group_forms_again_is_not_asked_for() -> None:
    client = EngineClient()
    Engine(client).ready()
    asking = _asked(client)
    await asyncio.sleep(0)
    client.lost("rank 1 fell silent")
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert not [c for c in Engine(client).ready().commands if not isinstance(c, Cancel)]


async def test_what_has_ended_is_not_asked_for_again() -> None:
    client = EngineClient()
    first = Engine(client).ready()
    asking = _asked(client)
    await asyncio.sleep(0)
    first.say(1, 11, last=True)
    client.lost("rank 1 fell silent")  # before the client has taken what came
    assert not Engine(client).ready().commands
    assert _tokens(await asking) == [11]


async def test_what_is_lost_and_what_is_done_about_it_is_told() -> None:
    client = EngineClient()
    Engine(client).ready()
    client.lost("rank 1 fell silent")
    Engine(client)
    client.receive(Progress("loading", "3 of 7 GB"))
    assert (client.health.status, client.health.reason) == ("recovering", "rank 1 fell silent; loading 3 of 7 GB")
    client.receive(Progress("warming"))
    assert client.health.reason == "rank 1 fell silent; warming"


async def test_a_status_tells_since_when_it_is_so(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(1)
    monkeypatch.setattr(client_module.time, "time", lambda: float(next(clock)))
    client = EngineClient(recover_seconds=0.0)
    loss, given_up = "rank 1 fell silent", "rank 1 fell silent; no group has formed within 0 s"

    def is_now(status: str, since: float, reason: str) -> None:
        assert (client.health.status, client.health.since, client.health.reason) == (status, since, reason)

    Engine(client)
    is_now("loading", 1, "the engine is starting")
    client.receive(Progress("loading", "3 of 7 GB"))
    is_now("loading", 1, "loading 3 of 7 GB")
    Engine(client).ready()
    client.receive(Figures([]))
    is_now("healthy", 2, "")
    client.lost(loss)
    is_now("recovering", 3, loss)
    Engine(client)
    is_now("recovering", 3, f"{loss}; the engine is starting")
    client.lost("the group has not formed")
    is_now("recovering", 3, f"{loss}; the group has not formed")
    await asyncio.sleep(0.01)
    is_now("degraded", 4, given_up)
    Engine(client)
    is_now("degraded", 4, f"{given_up}; the engine is starting")
    client.lost("the group has not formed again")
    is_now("degraded", 4, "the group has not formed again")
    Engine(client).ready()
    is_now("healthy", 5, "")


async def test_an_engine_that_failed_before_it_served_is_told_with_what_is_done_about_it() -> None:
    client = EngineClient()
    Engine(client)
    client.lost("the engine failed: a bug")
    assert (client.health.status, client.health.reason) == ("degraded", "the engine failed: a bug")
    Engine(client)
    client.receive(Progress("warming"))
    assert (client.health.status, client.health.reason) == ("degraded", "the engine failed: a bug; warming")


async def test_with_fewer_ranks_than_planned_it_is_degraded_and_answers_all_the_same() -> None:
    client = EngineClient()
    pair = Engine(client, (0, 2), "rank 1 (10.0.0.2)")
    pair.ready()
    client.receive(Figures([RankFacts(rank, f"mini-{rank}", 1, "cpu", 0, 9, 0) for rank in (0, 1)]))
    assert (client.health.status, client.health.reason) == (
        "degraded",
        "the model is served without rank 1 (10.0.0.2)",
    )
    assert client.takes_requests
    assert [facts.rank for facts in client.health.ranks] == [0, 2]
    asking = _asked(client)
    await asyncio.sleep(0)
    pair.say(1, 7)
    client.lost("rank 1 (10.0.0.2) is back: splitting the layers anew")
    assert client.health.status == "recovering"
    assert client.takes_requests
    trio = Engine(client).ready()
    assert client.health.status == "healthy"
    assert [submit.answered for submit in trio.submitted] == [[7]]
    trio.say(1, 8, last=True)
    assert _tokens(await asking) == [7, 8]


async def test_a_server_that_ends_tells_all() -> None:
    client = EngineClient()
    Engine(client).ready()
    asking = _asked(client)
    await asyncio.sleep(0)
    client.close("the server is shutting down")
    with pytest.raises(EngineNotReady, match="shutting down"):
        await asking
