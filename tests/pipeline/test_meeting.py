"""All ranks are there at the same moment before any of them begins to form the group."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from mlxserve.config import Place
from mlxserve.errors import FormationError
from mlxserve.pipeline.meeting import meet, meeting_point, not_formed
from tests.ports import free_port

SOON = 5.0


class Ring:
    """Ranks that may come to a meeting, each in a thread."""

    def __init__(self, size: int, pool: ThreadPoolExecutor) -> None:
        self.addresses = tuple(f"127.0.0.1:{free_port()}" for _ in range(size))
        self.said: dict[int, list[str]] = {rank: [] for rank in range(size)}
        self._pool = pool

    def place(self, rank: int) -> Place:
        return Place(rank, len(self.addresses), "ring", self.addresses)

    def come(self, rank: int, timeout: float = SOON) -> Future[None]:
        return self._pool.submit(meet, self.place(rank), timeout, self.said[rank].append)

    def connect(self) -> socket.socket:
        """A connection to where rank 0 waits."""
        deadline = time.monotonic() + SOON
        while True:
            try:
                return socket.create_connection(meeting_point(self.place(1)) or ("", 0), SOON)
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.01)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def heard(connection: socket.socket) -> str:
    return connection.recv(100).decode()


def test_all_go_on_when_the_last_has_come(pool: ThreadPoolExecutor) -> None:
    ring = Ring(3, pool)
    first, last = ring.come(2), ring.come(0)
    time.sleep(0.2)
    assert not first.done()
    assert not last.done()
    for meeting in (first, last, ring.come(1)):
        meeting.result(SOON)


def test_rank_0_no_longer_listens_when_the_others_go_on(pool: ThreadPoolExecutor) -> None:
    ring = Ring(2, pool)
    meetings = ring.come(0), ring.come(1)
    meetings[1].result(SOON)
    host, port = meeting_point(ring.place(0)) or ("", 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port))
    meetings[0].result(SOON)
    with socket.socket() as listener:  # as MLX's ring does
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.listen(0)


def test_who_does_not_come_is_named_by_all_who_have(pool: ThreadPoolExecutor) -> None:
    ring = Ring(3, pool)
    meetings = ring.come(0, 2), ring.come(1, 2)
    for rank, meeting in enumerate(meetings):
        with pytest.raises(FormationError) as raised:
            meeting.result(SOON)
        assert str(raised.value).startswith(
            f"rank {rank}: the group of 3 ranks has not formed within 2 s: no answer from rank 2 ({ring.addresses[2]})."
        )


def test_without_rank_0_it_is_named(pool: ThreadPoolExecutor) -> None:
    ring = Ring(2, pool)
    with pytest.raises(FormationError, match=r"no answer from rank 0 \(127"):
        ring.come(1, 0.5).result(SOON)


def test_what_a_rank_waits_for_is_told_once_a_second(pool: ThreadPoolExecutor) -> None:
    ring = Ring(2, pool)
    with pytest.raises(FormationError):
        ring.come(0, 1.5).result(SOON)
    assert ring.said[0] == ["rank 0 of 2 waits for the others"] * 2


def test_a_rank_that_has_come_and_gone_is_waited_for(pool: ThreadPoolExecutor) -> None:
    ring = Ring(2, pool)
    waiting = ring.come(0)
    with ring.connect() as gone:
        gone.sendall(b"rank 1 of 2\n")
        assert heard(gone) == "missing\n"
    time.sleep(0.2)
    assert not waiting.done()
    ring.come(1).result(SOON)
    waiting.result(SOON)


def test_a_rank_that_stands_still_does_not_count_as_there(pool: ThreadPoolExecutor) -> None:
    ring = Ring(3, pool)
    waiting = ring.come(0, 3.5)
    with ring.connect() as frozen:
        frozen.sendall(b"rank 1 of 3\n")
        assert heard(frozen).startswith("missing")
        with pytest.raises(FormationError, match=r"no answer from rank 1 "):
            ring.come(2, 3).result(SOON)
    with pytest.raises(FormationError):
        waiting.result(SOON)


@pytest.mark.parametrize("words", ["", "GET / HTTP/1.1\r\n\r\n", "rank 1 of 3\n", "rank 0 of 2\n", "rank 2 of 2\n"])
def test_strangers_do_not_count(pool: ThreadPoolExecutor, words: str) -> None:
    ring = Ring(2, pool)
    waiting = ring.come(0)
    with ring.connect() as stranger:
        stranger.sendall(words.encode())
        time.sleep(0.2)
        assert not waiting.done()
        ring.come(1).result(SOON)
        waiting.result(SOON)


def test_a_rank_that_comes_again_takes_its_own_place(pool: ThreadPoolExecutor) -> None:
    ring = Ring(3, pool)
    waiting = ring.come(0)
    with ring.connect() as before:
        before.sendall(b"rank 1 of 3\n")
        assert heard(before) == "missing 2\n"
        meetings = ring.come(1), ring.come(2)
        for meeting in (*meetings, waiting):
            meeting.result(SOON)


def test_a_port_that_others_use_is_named(pool: ThreadPoolExecutor) -> None:
    ring = Ring(2, pool)
    host, port = meeting_point(ring.place(0)) or ("", 0)
    with (
        socket.create_server((host, port)),
        pytest.raises(FormationError, match=f"rank 0 cannot listen at {host}:{port}"),
    ):
        ring.come(0).result(SOON)


def test_an_address_that_is_away_may_come_back(pool: ThreadPoolExecutor) -> None:
    place = Place(0, 2, "ring", ("192.0.2.1:32323", "192.0.2.2:32323"))
    with pytest.raises(FormationError, match=r"within 0\.5 s"):
        meet(place, 0.5, lambda waiting: None)


@pytest.mark.parametrize("place", [Place(), Place(0, 2, "mpi"), Place(0, 2, "jaccl", ("192.168.5.1:32323",))])
def test_there_is_no_meeting_where_no_ring_is(place: Place) -> None:
    meet(place, 0, lambda waiting: None)


def test_the_ranks_meet_where_all_reach_rank_0() -> None:
    addresses = ("192.168.5.1:32323", "192.168.6.2:32324")
    assert meeting_point(Place(1, 2, "ring", addresses)) == ("192.168.5.1", 32323)
    assert meeting_point(Place(1, 2, "ring", addresses, "10.0.0.1")) == ("10.0.0.1", 32323)


def test_where_not_all_addresses_are_known_nobody_is_said_to_answer() -> None:
    said = not_formed(Place(0, 2, "jaccl", ("192.168.5.1:32323",)), 45, [])
    assert "the group of 2 ranks has not formed within 45 s: not all ranks have come. Is mlxserve running" in said
