"""What a rank has for the model is measured at start, quickly, and a limit bounds it."""

from __future__ import annotations

import time

import mlx.core as mx

from mlxserve.config import Capacity, Place, Settings
from mlxserve.pipeline.capacity import levelled, measure_capacity


def test_speed_and_memory_are_measured_in_a_moment_and_nothing_is_left_of_it() -> None:
    before = mx.get_active_memory()
    start = time.perf_counter()
    capacity = measure_capacity(Settings())
    assert time.perf_counter() - start < 2.0  # where others compute, too
    assert 1e8 < capacity.bytes_per_second < 1e13
    assert capacity.memory_bytes > 1 << 26
    assert mx.get_active_memory() == before


def test_a_limit_is_what_there_is() -> None:
    limits = (100_000_000, 300_000_000)
    found = [measure_capacity(Settings(Place(rank, 2), memory_limit=limits)).memory_bytes for rank in range(2)]
    held = mx.get_active_memory()
    assert found == [limit - held for limit in limits]


def test_ranks_of_one_host_are_as_fast_as_the_fastest_of_them() -> None:
    found = levelled(["mini-1", "mini-2", "mini-1"], [Capacity(1, 50.0), Capacity(2, 40.0), Capacity(3, 90.0)])
    assert found == [Capacity(1, 90.0), Capacity(2, 40.0), Capacity(3, 90.0)]
