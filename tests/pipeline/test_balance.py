"""Layers go where they take least time, within the ranks' memory, and the same way each time."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxserve.config import Capacity
from mlxserve.pipeline.balance import Weights, balance, expected_seconds, slownesses

GB = 10**9
FAST, SLOW = 273e9, 120e9
"""Of an M4 Pro, and of an M4."""


def plain(layers: int, size: int = GB, shared: int = 0) -> Weights:
    """Layers that are equal, and read whole for each token."""
    return Weights([size] * layers, [size] * layers, shared)


def ranks(*speeds: float) -> list[Capacity]:
    return [Capacity(1000 * GB, speed) for speed in speeds]


def with_memory(*sizes: int) -> list[Capacity]:
    return [Capacity(size * GB, SLOW) for size in sizes]


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_equal_ranks_get_equal_shares_the_first_the_longest(world_size: int) -> None:
    longest = -(-30 // world_size)
    parts = balance(plain(30), [Capacity()] * world_size)
    assert parts[0] == longest == max(parts)
    assert parts == sorted(parts, reverse=True)
    assert parts == balance(plain(30), ranks(*[SLOW] * world_size))


@given(st.lists(st.floats(0.7, 1.0), min_size=2, max_size=4))
def test_small_differences_of_measured_speed_change_nothing(shares: list[float]) -> None:
    measured = ranks(*(SLOW * share for share in shares))
    assert balance(plain(30), measured) == balance(plain(30), [Capacity()] * len(shares))


def test_a_rank_that_is_twice_as_fast_gets_twice_the_layers() -> None:
    assert balance(plain(30), ranks(FAST, SLOW)) == [20, 10]
    assert balance(plain(30), ranks(SLOW, FAST)) == [10, 20]
    assert balance(plain(30), ranks(SLOW, FAST, SLOW)) == [8, 16, 6]


def test_a_rank_that_would_only_hold_up_the_others_gets_no_more_than_it_must() -> None:
    assert balance(plain(30), ranks(FAST, FAST / 4)) == [29, 1]
    assert balance(plain(30), [Capacity(20 * GB, FAST), Capacity(1000 * GB, FAST / 4)]) == [15, 15]


@pytest.mark.parametrize(("memory", "parts"), [((10, 30), [9, 27]), ((30, 10), [27, 9]), ((12, 12, 24), [9, 9, 18])])
def test_where_memory_is_short_each_rank_gets_layers_by_its_own(memory: tuple[int, ...], parts: list[int]) -> None:
    assert balance(plain(36), with_memory(*memory)) == parts


def test_where_memory_is_ample_it_does_not_matter() -> None:
    assert balance(plain(30), with_memory(40, 120)) == [15, 15]


def test_a_slow_rank_takes_what_the_fast_ones_memory_does_not_hold() -> None:
    fast, slow = Capacity(20 * GB, FAST), Capacity(100 * GB, SLOW)
    assert balance(plain(30), [fast, slow]) == [15, 15]
    assert balance(plain(18), [fast, slow]) == [12, 6]


def test_what_rank_0_has_besides_layers_takes_memory_too() -> None:
    assert balance(plain(30, shared=10 * GB), with_memory(20, 60)) == [5, 25]


def test_a_model_that_fits_nowhere_is_spread_as_well_as_can_be() -> None:
    assert balance(plain(40), with_memory(5, 15)) == [10, 30]


def test_experts_that_are_not_asked_take_memory_but_no_time() -> None:
    """A first layer that is dense, as DeepSeek's, is read whole."""
    experts = Weights(sizes=[1, 10, 10, 10], reads=[1, 1, 1, 1])
    assert balance(experts, [Capacity()] * 2) == [2, 2]
    dense = Weights(sizes=[1, 10, 10, 10], reads=[1, 10, 10, 10])
    assert balance(dense, [Capacity()] * 3) == [2, 1, 1]
    assert balance(experts, [Capacity(1000, 1), Capacity(13, 1)]) == [3, 1]


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(20, 300), st.floats(10, 100)), min_size=1, max_size=4),
)
def test_no_cut_within_memory_is_faster(sizes: list[int], machines: list[tuple[int, float]]) -> None:
    capacities = [Capacity(*machine) for machine in machines[: len(sizes)]]
    weights = Weights(sizes, [size % 7 + 1 for size in sizes], shared=5)
    slowness = slownesses(capacities)

    def fullness(parts: tuple[int, ...]) -> int:
        held = _sums(sizes, parts)
        held[0] += weights.shared
        return max(-(-1000 * each // rank.memory_bytes) for each, rank in zip(held, capacities, strict=True))

    def cost(parts: tuple[int, ...]) -> int:
        times = [slow * read for slow, read in zip(slowness, _sums(weights.reads, parts), strict=True)]
        return sum(times) + max(times)

    every_cut = [
        cut for cut in itertools.product(range(1, len(sizes) + 1), repeat=len(capacities)) if sum(cut) == len(sizes)
    ]
    fullest = max(750, min(map(fullness, every_cut)))
    parts = tuple(balance(weights, capacities))
    assert fullness(parts) <= fullest
    assert cost(parts) == min(cost(cut) for cut in every_cut if fullness(cut) <= fullest)


def _sums(values: list[int], parts: tuple[int, ...]) -> list[int]:
    ends = list(itertools.accumulate(parts))
    return [sum(values[end - part : end]) for part, end in zip(parts, ends, strict=True)]


def test_what_a_token_takes_is_told_by_measured_speeds_the_head_on_rank_0() -> None:
    weights = Weights([GB] * 4, [GB] * 4, shared=3 * GB, tail=2 * GB)
    split = [range(1), range(1, 4)]
    assert expected_seconds(weights, split, ranks(100e9, 150e9)) == pytest.approx([0.03, 0.02])
    assert expected_seconds(weights, split, []) == [0.0, 0.0]


def test_many_layers_on_many_unequal_ranks_are_cut_in_no_time() -> None:
    """Tens of seconds without leaving out what is worse in both."""
    parts = balance(plain(96), [Capacity(40 * GB, SLOW * (1 + rank % 3)) for rank in range(8)])
    assert sum(parts) == 96
    assert parts[0] < parts[1] < parts[2]
