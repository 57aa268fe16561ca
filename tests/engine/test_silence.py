"""An engine process that says nothing is noticed by its node, but not while it may have to be silent."""

from __future__ import annotations

import asyncio

import pytest

from mlxserve.engine import silence
from mlxserve.engine.messages import Alive, Event, Figures, Progress
from mlxserve.engine.silence import Silence

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half seconds that take a millisecond."""
    sleep = asyncio.sleep
    monkeypatch.setattr(silence.asyncio, "sleep", lambda seconds: sleep(seconds / 500))


async def told(timeout: float, *said: Event) -> str:
    """What comes of the silence after the engine has `said` this."""
    silence = Silence(timeout)
    for event in said:
        silence.ends_with(event)
    return await asyncio.wait_for(silence.too_long(), 3)


async def test_an_engine_that_serves_is_bound_by_the_timeout() -> None:
    loaded = (Alive(), Alive(loaded=True), Figures([]))
    assert await told(5, *loaded) == (
        "the engine process has said nothing for 8 s: it was stuck or stopped, and is killed"
    )
    assert "nothing for 3.5 s" in await told(0.5, *loaded)


async def test_one_that_loads_may_be_silent_for_longer() -> None:
    assert "nothing for 300 s" in await told(5)
    assert "nothing for 300 s" in await told(5, Alive(), Progress("loading", "3 of 7 GB"))


async def test_one_that_waits_for_other_ranks_says_so_all_the_time() -> None:
    assert "nothing for 8 s" in await told(5, Progress("meeting"))


async def test_one_whose_group_forms_may_be_silent_as_long_as_that_takes() -> None:
    with pytest.raises(TimeoutError):
        await told(5, Progress("forming"))
    assert "nothing for 300 s" in await told(5, Progress("forming"), Alive())


async def test_each_word_ends_the_silence() -> None:
    silence = Silence(5)
    silence.ends_with(Alive(loaded=True))
    waiting = asyncio.create_task(silence.too_long())
    for _ in range(30):
        await asyncio.sleep(2.0)
        silence.ends_with(Alive(loaded=True))
    assert not waiting.done()
    assert "8 s" in await waiting
