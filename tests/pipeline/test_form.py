from __future__ import annotations

import mlx.core as mx
import pytest

from mlxserve.pipeline.form import LARGE, SMALL, Form, form_of


def of_passes(*axes: str | int) -> Form:
    """Of an array that follows rows and length where `axes` says so."""
    shapes = [
        [axis if isinstance(axis, int) else {"rows": rows, "length": length}[axis] for axis in axes]
        for rows, length in (SMALL, LARGE)
    ]
    return form_of(mx.zeros(shapes[0], mx.float16), mx.zeros(shapes[1], mx.float16))


@pytest.mark.parametrize("axes", [("rows", "length", 64), (4, "rows", "length", 8), ("length", "rows"), (7,)])
def test_two_passes_tell_the_shape_of_any_other(axes: tuple[str | int, ...]) -> None:
    form = of_passes(*axes)
    assert form == Form(axes, mx.float16)
    assert form.known
    assert form.shape(5, 9) == tuple(axis if isinstance(axis, int) else {"rows": 5, "length": 9}[axis] for axis in axes)


def test_what_grows_otherwise_is_unknown() -> None:
    assert not form_of(mx.zeros((1, 256)), mx.zeros((2, 512))).known
    assert not form_of(mx.zeros((1, 1)), mx.zeros((2,))).known


@pytest.mark.parametrize("axes", [("rows", "length", 2), (2, "length", "rows"), ("length", 2, "rows")])
def test_each_row_keeps_the_position_that_it_ends_at(axes: tuple[str | int, ...]) -> None:
    form = of_passes(*axes)
    shape = form.shape(3, 5)
    values = mx.arange(30).reshape(shape)
    kept = form.at_positions(values, [4, 0, 2])
    assert kept.shape == form.shape(3, 1)
    rows, length = axes.index("rows"), axes.index("length")
    for row, position in enumerate([4, 0, 2]):
        whole = mx.take(mx.take(values, mx.array([row]), rows), mx.array([position]), length)
        assert mx.array_equal(mx.take(kept, mx.array([row]), rows), whole).item()


def test_what_has_no_length_or_one_row_for_all_is_cut_nowhere_else() -> None:
    state = mx.arange(6).reshape(3, 2)
    assert mx.array_equal(of_passes("rows", 2).at_positions(state, [1, 0, 2]), state).item()
    mask = mx.arange(10).reshape(5, 2)
    assert of_passes("length", 2).at_positions(mask, [3]).tolist() == [[6, 7]]
