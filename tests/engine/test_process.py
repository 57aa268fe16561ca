from __future__ import annotations

from typing import Any

import pytest

from mlxserve.bundle import build_id
from mlxserve.config import Capacity, Place, Settings
from mlxserve.engine.messages import Measured
from mlxserve.engine.process import check_build, with_capacity
from mlxserve.errors import BrokenBuild


def test_an_engine_of_another_build_than_its_nodes_is_refused_with_both_named() -> None:
    check_build(build_id())
    with pytest.raises(BrokenBuild, match=rf"build 0123 by {build_id()}"):
        check_build("0123")


class Told:
    """Takes the place of the channel to the node."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def send(self, event: Any) -> None:
        self.events.append(event)


def test_what_the_machine_has_is_measured_once_and_told_to_the_node_for_later_engines() -> None:
    channel: Any = Told()
    first = with_capacity(Settings(Place(0, 2)), channel)
    assert first.place.capacity.bytes_per_second > 0
    assert channel.events == [Measured(first.place.capacity)]
    known = Settings(Place(0, 2, capacity=Capacity(5, 7.0)))
    assert with_capacity(known, channel) == known
    assert len(channel.events) == 1


def test_a_rank_that_is_alone_has_nothing_to_measure() -> None:
    channel: Any = Told()
    assert with_capacity(Settings(), channel) == Settings()
    assert channel.events == []
