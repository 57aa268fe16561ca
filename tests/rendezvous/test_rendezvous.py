"""Nodes that meet, over real connections of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

import msgspec
import pytest

from mlxserve.config import Place, Settings
from mlxserve.errors import FormationError, UserError
from mlxserve.rendezvous import guest as guests
from mlxserve.rendezvous import host as hosts
from mlxserve.rendezvous import wire
from mlxserve.rendezvous.formation import Formation
from mlxserve.rendezvous.guest import Guest
from mlxserve.rendezvous.host import Host
from mlxserve.rendezvous.rendezvous import Whole, rendezvous_of
from mlxserve.rendezvous.wire import Here, Wire
from tests.ports import free_port

pytestmark = pytest.mark.anyio
Node = Host | Guest
Opened = Callable[..., "asyncio.Future[Node]"]
SOON = 5.0
BRIEF = 0.2
"""Seconds that stand for those in which a rank may be absent, and must have been back."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (hosts, "ABSENCE_SECONDS"), (hosts, "SETTLED_SECONDS"), (hosts, "_LOOK_SECONDS"),
        (guests, "_RETRY_SECONDS"), (wire, "BEAT_SECONDS"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, BRIEF / 2 if name == "_LOOK_SECONDS" else BRIEF)


@pytest.fixture
def ring() -> tuple[tuple[str, ...], ...]:
    return tuple((f"127.0.0.1:{free_port()}",) for _ in range(3))


@pytest.fixture
async def opened(ring: tuple[tuple[str, ...], ...]) -> AsyncIterator[Opened]:
    """Opens the node of a planned rank; two of three are enough."""
    nodes: list[Node] = []

    async def open_node(rank: int, **more: object) -> Node:
        place = Place(rank, 3, "ring", tuple(addresses[0] for addresses in ring), ring=ring)
        settings = Settings(place, min_ranks=2, form_timeout=SOON, silence_timeout=1.0)
        node = rendezvous_of(msgspec.structs.replace(settings, **more))
        assert isinstance(node, Host | Guest)
        await node.open()
        nodes.append(node)
        return node

    yield open_node  # type: ignore[misc]
    for node in nodes:
        node.close()


async def following(*nodes: Node) -> list[Formation]:
    """The next group, as each of `nodes` is told of it."""
    groups = await asyncio.wait_for(asyncio.gather(*(node.next(lambda reason: None) for node in nodes)), 2 * SOON)
    assert len({(group.number, group.members) for group in groups}) == 1
    return groups


async def test_without_the_flag_nobody_meets() -> None:
    settings = Settings(Place(1, 2))
    whole = rendezvous_of(settings)
    assert isinstance(whole, Whole)
    assert [(await whole.next(print)).members for _ in range(2)] == [(0, 1)] * 2
    assert isinstance(rendezvous_of(msgspec.structs.replace(settings, min_ranks=2)), Whole)


async def test_only_a_ring_can_go_on_with_fewer() -> None:
    with pytest.raises(UserError, match="--min-ranks needs the ring backend"):
        rendezvous_of(Settings(Place(0, 2, "jaccl"), min_ranks=1))


async def test_when_all_are_there_the_whole_group_forms_at_once(opened: Opened) -> None:
    nodes = [await opened(rank) for rank in range(3)]
    (group, *_) = await following(*nodes)
    assert group.is_whole
    assert [one.place.rank for one in await following(*nodes)] == [0, 1, 2]


async def test_who_starts_before_rank_0_waits_for_it(opened: Opened) -> None:
    late = [await opened(rank) for rank in (1, 2)]
    waiting = asyncio.gather(*(node.next(print) for node in late))
    await asyncio.sleep(2 * BRIEF)
    first = await opened(0)
    await following(first)
    assert [group.members for group in await waiting] == [(0, 1, 2)] * 2


async def test_after_a_while_those_who_are_there_are_enough_and_who_is_missing_is_told(opened: Opened) -> None:
    first, second = await opened(0, form_timeout=BRIEF), await opened(2)
    said: list[str] = []
    group = await asyncio.wait_for(first.next(said.append), SOON)
    assert (group.members, group.missing) == ((0, 2), (1,))
    assert said[-1] == "waiting for rank 1 (127.0.0.1)"
    assert (await following(second))[0].place.rank == 1


async def test_too_few_are_told_whom_there_is_no_word_from(opened: Opened) -> None:
    first = await opened(0, form_timeout=BRIEF)
    with pytest.raises(FormationError, match=r"only 1 of 3 .* no word from rank 1 \(127\.0\.0\.1\), rank 2"):
        await asyncio.wait_for(first.next(print), SOON)


async def test_rank_0_without_its_cable_goes_on_alone(caplog: pytest.LogCaptureFixture) -> None:
    ring = (("192.0.2.1:5000",), ("192.0.2.2:5001",))  # addresses for documentation: no machine has them
    place = Place(0, 2, "ring", tuple(addresses[0] for addresses in ring), ring=ring)
    first = Host(Settings(place, min_ranks=1, form_timeout=BRIEF))
    await first.open()
    assert (await asyncio.wait_for(first.next(print), SOON)).members == (0,)
    await asyncio.sleep(0)
    assert "no rank can come as long as this machine does not have 192.0.2.1" in caplog.text
    first.close()


async def test_a_port_that_is_taken_is_named(opened: Opened) -> None:
    await opened(0)
    with pytest.raises(UserError, match=r"cannot meet at 127\.0\.0\.1:\d+, .* Choose another --starting-port"):
        await opened(0)


async def test_a_worker_without_a_first_rank_gives_up(opened: Opened) -> None:
    worker = await opened(1, form_timeout=BRIEF)
    with pytest.raises(FormationError, match=r"rank 1: no word from rank 0 at 127\.0\.0\.1"):
        await asyncio.wait_for(worker.next(print), SOON)


async def test_once_they_have_met_a_worker_waits_for_ever(opened: Opened) -> None:
    first, worker, _ = [await opened(rank, form_timeout=SOON if rank != 1 else BRIEF) for rank in range(3)]
    await following(first, worker)
    first.close()
    with suppress(TimeoutError):
        await asyncio.wait_for(worker.next(print), 4 * BRIEF)
        pytest.fail("there is no group without rank 0")


async def test_a_rank_that_goes_and_comes_back_is_done_without_and_taken_in_again(opened: Opened) -> None:
    first, second, third = [await opened(rank) for rank in range(3)]
    (whole, *_) = await following(first, second, third)
    first.serves(whole)
    third.close()
    while first._absent != (2,):
        await first._change()
    first.over(whole, "rank 2 is lost", final=False)
    pair, _ = await following(first, second)
    assert pair.members == (0, 1)
    first.serves(pair)
    again = await opened(2)
    reason = await asyncio.wait_for(first.left(pair), SOON)
    assert reason == "rank 2 (127.0.0.1) is back: splitting the layers anew"
    first.over(pair, reason, final=False)
    (group, *_) = await following(first, second, again)
    assert group.is_whole


async def test_ranks_that_the_model_does_not_fit_on_wait_for_others(opened: Opened) -> None:
    first, second = [await opened(rank, form_timeout=BRIEF) for rank in range(2)]
    (pair, *_) = await following(first, second)
    first.over(pair, "rank 1: 2.0 GB are missing", final=True)
    said: list[str] = []
    coming = asyncio.create_task(first.next(said.append))
    await asyncio.sleep(3 * BRIEF)
    assert not coming.done()
    assert said[-1] == "waiting for rank 2 (127.0.0.1)"
    await opened(2)
    assert (await asyncio.wait_for(coming, SOON)).is_whole


async def test_a_worker_leaves_its_group_when_another_is_called_together(opened: Opened) -> None:
    first, second, third = [await opened(rank) for rank in range(3)]
    (whole, *_) = await following(first, second, third)
    leaving = asyncio.create_task(second.left(whole))
    await first.next(print)
    assert await asyncio.wait_for(leaving, SOON) == "rank 0 calls another group together"


async def test_a_group_whose_member_ends_as_it_forms_is_not_waited_for(opened: Opened) -> None:
    first, second, third = [await opened(rank) for rank in range(3)]
    (whole, *_) = await following(first, second, third)
    leaving = asyncio.create_task(first.left(whole))
    second.over(whole, "was killed by SIGKILL", final=False)
    assert await asyncio.wait_for(leaving, SOON) == "rank 1 (127.0.0.1): was killed by SIGKILL"


async def test_a_member_that_ends_when_all_serve_is_the_engines_own_affair(opened: Opened) -> None:
    first, second, third = [await opened(rank) for rank in range(3)]
    (whole, *_) = await following(first, second, third)
    first.serves(whole)
    second.over(whole, "was killed by SIGKILL", final=False)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(first.left(whole), 3 * BRIEF)


async def test_another_build_is_refused_with_both_named(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    await opened(0)
    monkeypatch.setattr(guests, "build_id", lambda: "another")
    worker = await opened(1)
    with pytest.raises(UserError, match=r"rank 0 runs mlxserve build .*, this is another"):
        await asyncio.wait_for(worker.next(print), SOON)


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xff", b"\0\0\0\1\xc1"])
async def test_strangers_do_not_count(opened: Opened, ring: tuple[tuple[str, ...], ...], said: bytes) -> None:
    first, second, third = [await opened(rank) for rank in range(3)]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(ring[0][0].rpartition(":")[2]) - 1)
    writer.write(said)
    writer.write_eof()
    with suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), SOON)
    writer.close()
    (group, *_) = await following(first, second, third)
    assert group.is_whole


async def test_a_silent_rank_counts_as_gone(opened: Opened, ring: tuple[tuple[str, ...], ...]) -> None:
    first, second = await opened(0), await opened(1)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(ring[0][0].rpartition(":")[2]) - 1)
    frozen = Wire(reader, writer, SOON)
    frozen.say(Here(2, guests.build_id()))
    whole, _ = await following(first, second)
    assert whole.is_whole
    frozen._beating.cancel()
    assert await asyncio.wait_for(first.left(whole), SOON) == "rank 2 (127.0.0.1): its node is gone"
    writer.close()
