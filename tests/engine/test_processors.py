"""Which processors each rank of a machine computes on."""

from __future__ import annotations

import pytest

from mlxserve.engine.processors import own_processors


@pytest.mark.parametrize(
    ("processors", "ranks", "expected"),
    [
        ([0, 1], 2, [[0], [1]]),
        ([2, 3, 5, 7, 8], 2, [[2, 3], [5, 7, 8]]),
        ([0, 1, 2, 3], 3, [[0], [1], [2, 3]]),
        ([0, 1], 3, [[], [], []]),
    ],
)
def test_each_rank_has_some_and_none_has_another_ones(
    processors: list[int], ranks: int, expected: list[list[int]]
) -> None:
    assert [own_processors(processors, index, ranks) for index in range(ranks)] == expected
