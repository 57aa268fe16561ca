"""What a node makes of the ends of its engines, played here by a script, where jaccl may fall back to the ring."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import msgspec
import pytest

from mlxserve.bars import NoDisplay
from mlxserve.config import Capacity, Passes, Place, Settings
from mlxserve.engine.child import EngineChild
from mlxserve.engine.client import EngineClient
from mlxserve.engine.messages import Ended, Event, Measured, Paced
from mlxserve.errors import CheckFailed, DamagedData, FormationError, MlxserveError, RankLost
from mlxserve.keeper import EngineKeeper
from mlxserve.rendezvous.formation import Formation
from mlxserve.rendezvous.rendezvous import rendezvous_of

pytestmark = pytest.mark.anyio

RING = (("127.0.0.1:5001",), ("127.0.0.1:5002",))
JACCL = Place(1, 2, "jaccl", ("127.0.0.1:5000",), fallback=RING)
FALLING_BACK = Settings(JACCL, fallback="ring")
UNFORMED = Ended(FormationError.exit_code, "rank 1 could not join the group")
DAMAGED = Ended(DamagedData.exit_code, "what rank 1 received of 8 B by all_sum differs from what was sent")
LOST = Ended(RankLost.exit_code, "rank 0 is lost")
DONE = Ended(0, "")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Engine:
    """An engine process that says this, how it ends at last, and nothing else."""

    def __init__(self, *said: Event) -> None:
        self._said = iter(said)

    def send(self, command: object) -> None:
        """Nobody hears it."""

    async def receive(self) -> Event:
        return next(self._said)

    async def outcome(self, last_word: Ended) -> Ended:
        return last_word


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxserve.keeper._FIRST_RESTART_SECONDS", 0.0)


async def kept(settings: Settings, endings: list[Ended], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The backends of the engines that are started until the node ends; they end as `endings` says."""
    return [place.backend for place in await places(settings, [Engine(ended) for ended in endings], monkeypatch)]


async def places(settings: Settings, engines: list[Engine], monkeypatch: pytest.MonkeyPatch) -> list[Place]:
    """Of `engines`, which are started one after the other until the node ends."""
    script: Iterator[Engine] = iter(engines)
    found: list[Place] = []

    async def start(settings: Settings, formation: Formation) -> Engine:
        assert msgspec.structs.replace(settings.place, capacity=Capacity(), passes=Passes()) == formation.place
        found.append(settings.place)
        return next(script)

    monkeypatch.setattr(EngineChild, "start", start)
    keeper = EngineKeeper(
        settings, EngineClient(), rendezvous_of(settings), asyncio.Event(), lambda reason: None, None, NoDisplay()
    )
    try:
        await keeper.run()
    finally:
        assert next(script, None) is None, "an engine that should have been started was not"
    return found


async def test_what_an_engine_has_measured_later_ones_need_not(monkeypatch: pytest.MonkeyPatch) -> None:
    capacity, passes = Capacity(5, 7.0), Passes((14, 14), ((1, 0.5),))
    engines = [Engine(Measured(capacity), Paced(passes), LOST), Engine(LOST), Engine(DONE)]
    first, *later = await places(Settings(Place(0, 2)), engines, monkeypatch)
    assert (first.capacity, first.passes) == (Capacity(), Passes())
    assert [(place.capacity, place.passes) for place in later] == [(capacity, passes)] * 2


@pytest.mark.parametrize("failed", [UNFORMED, DAMAGED])
async def test_where_jaccl_fails_all_further_engines_are_for_the_ring_after_one_warning(
    failed: Ended, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backends = await kept(FALLING_BACK, [failed, LOST, DONE], monkeypatch)
    assert backends == ["jaccl", "ring", "ring"]
    warnings = [line.getMessage() for line in caplog.records if "going on over the ring" in line.getMessage()]
    assert warnings == [f"{failed.message}; going on over the ring, which is slower, until the next start"]
    assert [line.levelno for line in caplog.records][:1] == [logging.WARNING]


async def test_a_lost_rank_is_no_reason_to_fall_back(monkeypatch: pytest.MonkeyPatch) -> None:
    assert await kept(FALLING_BACK, [LOST, LOST, DONE], monkeypatch) == ["jaccl"] * 3


@pytest.mark.parametrize("task", ["serve", "check"])
async def test_other_ranks_may_fall_back_later(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(JACCL, fallback="ring", task=task)  # type: ignore[arg-type]
    assert await kept(settings, [UNFORMED, UNFORMED, DONE], monkeypatch) == ["jaccl", "ring", "ring"]


@pytest.mark.parametrize(("task", "error"), [("serve", FormationError), ("check", CheckFailed)])
async def test_they_are_not_waited_for_for_ever(
    task: str, error: type[MlxserveError], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(JACCL, fallback="ring", task=task, form_timeout=0.0)  # type: ignore[arg-type]
    with pytest.raises(error, match="could not join the group"):
        await kept(settings, [UNFORMED, UNFORMED], monkeypatch)


async def test_unasked_no_rank_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FormationError, match="could not join the group"):
        await kept(Settings(JACCL), [UNFORMED], monkeypatch)


async def test_ranks_that_damage_what_they_send_each_other_time_and_again_do_not_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ring = Settings(Place(1, 2, "ring", ("127.0.0.1:5001", "127.0.0.1:5002"), ring=RING), fallback="ring")
    with pytest.raises(MlxserveError, match="failed 3 times in a row: what rank 1 received of 8 B by all_sum differs"):
        await kept(ring, [DAMAGED] * 3, monkeypatch)
