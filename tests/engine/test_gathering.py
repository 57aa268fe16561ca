"""For how long requests that come after idleness wait for others; no clock is waited for."""

from __future__ import annotations

from queue import Empty

import pytest

from mlxserve.engine.gathering import coming_together

SOON, LATE = 0.01, 5.0


class Orders:
    """Orders that come after so many milliseconds each; one that would come too late never does."""

    def __init__(self, *gaps: float) -> None:
        self._gaps = list(gaps)
        self.waited = 0.0

    def get(self, *, timeout: float) -> float:
        gap = self._gaps.pop(0) if self._gaps else float("inf")
        self.waited += min(gap, 1000 * timeout)
        if gap > 1000 * timeout:
            raise Empty
        return gap


def test_a_single_request_hardly_waits() -> None:
    orders = Orders()
    assert list(coming_together(orders, 0, LATE)) == []
    assert orders.waited <= 10


def test_who_asks_on_alone_waits_less() -> None:
    orders = Orders()
    assert list(coming_together(orders, 1, SOON)) == []
    assert orders.waited <= 5


def test_a_burst_is_read_together_though_its_requests_come_slowly() -> None:
    assert len(list(coming_together(Orders(8, 12, 12), 0, LATE))) == 3


@pytest.mark.parametrize("ended", [4, 8])
def test_those_whose_answers_ended_together_are_waited_for(ended: int) -> None:
    gaps = [12.0] + [2.0] * (ended - 2)
    orders = Orders(*gaps)
    assert list(coming_together(orders, ended, SOON)) == gaps
    assert orders.waited <= sum(gaps) + 5, "all have come: nobody else is waited for as long"


def test_answers_that_ended_long_ago_say_nothing() -> None:
    orders = Orders(12)
    assert list(coming_together(orders, 8, LATE)) == []
    assert orders.waited <= 10


def test_however_many_come_the_first_one_is_read_soon() -> None:
    class Endless(Orders):
        def get(self, *, timeout: float) -> float:
            return 0.0

    came = 0
    for _ in coming_together(Endless(), 0, LATE):
        came += 1
    assert came > 100
