from __future__ import annotations

import mlx.core as mx

from mlxserve.pipeline.origins import origins_of


def test_the_nearest_marks_are_found_and_those_behind_them_are_not() -> None:
    tokens = mx.array([1.0, 2.0])
    first = tokens * 2
    second = first + 1
    found = origins_of(
        {"sum": second + first, "later": mx.exp(second), "alone": mx.ones(2)},
        {"tokens": tokens, "first": first, "second": second},
    )
    assert found == {"sum": {"first", "second"}, "later": {"second"}, "alone": set()}


def test_an_array_that_is_a_mark_itself_comes_from_it() -> None:
    mark = mx.array([1.0])
    assert origins_of({"one": mark, "other": mark}, {"mark": mark}) == {"one": {"mark"}, "other": {"mark"}}
