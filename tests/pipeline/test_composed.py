"""What is composed anew has the bits of what MLX composes."""

from __future__ import annotations

import itertools
from typing import Any

import mlx.core as mx
import pytest

from mlxserve.pipeline.composed import attention, attention_of_mlx, norm_of_mlx, rms_norm
from mlxserve.pipeline.rotary import rope, rope_of_mlx, unchanging

TYPES = [mx.float32, mx.bfloat16, mx.float16]


def numbers(shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
    return (3 * mx.random.normal(shape, key=mx.random.key(len(shape)))).astype(dtype)


def same(ours: mx.array, theirs: mx.array) -> bool:
    alike = (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    return alike and bool(mx.array_equal(ours, theirs, equal_nan=True).item())


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("traditional", [False, True])
@pytest.mark.parametrize("dims", [64, 16])
@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("length", [1, 5, 130])
def test_positions_turn_as_in_mlx(dtype: mx.Dtype, traditional: bool, dims: int, rows: int, length: int) -> None:
    a = numbers((rows, 4, length, 64), dtype)
    offsets: list[Any] = [7, unchanging(mx.array([400 + 10 * row for row in range(rows)], mx.int32))]
    freqs = mx.abs(numbers((dims // 2,), mx.float32)) + 1
    rates: list[tuple[float | None, Any]] = [(10000.0, None), (500000, None), (12345.678, None), (None, freqs)]
    for offset, (base, given), scale in itertools.product(offsets, rates, [1.0, 0.3]):
        wanted: dict[str, Any] = {
            "traditional": traditional,
            "base": base,
            "scale": scale,
            "offset": offset,
            "freqs": given,
        }
        assert same(rope(a, dims, **wanted), rope_of_mlx(a, dims, **wanted))


def test_positions_that_are_written_into_are_seen() -> None:
    a, offset = numbers((2, 4, 1, 64), mx.float32), mx.array([3, 9])
    wanted: dict[str, Any] = {"traditional": False, "base": 10000.0, "scale": 1.0, "offset": offset}
    for _ in range(3):
        assert same(rope(a, 64, **wanted), rope_of_mlx(a, 64, **wanted))
        offset += 1


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("heads", [(4, 4), (9, 3), (1, 1)], ids=str)
@pytest.mark.parametrize(("rows", "length", "keys"), [(1, 1, 70), (3, 1, 400), (2, 5, 40), (1, 130, 300)])
def test_attention_is_as_in_mlx(dtype: mx.Dtype, heads: tuple[int, int], rows: int, length: int, keys: int) -> None:
    q = numbers((rows, heads[0], length, 64), dtype)
    # As in a cache with room: what is attended to does not lie in one piece.
    k, v = (numbers((rows, heads[1], keys + 20, 64), dtype)[:, :, :keys] for _ in range(2))
    seen = mx.arange(keys)[None] <= mx.arange(keys - length, keys)[:, None]
    of_rows = mx.stack([seen & (mx.arange(keys) > row) for row in range(rows)])[:, None]
    by_head = mx.broadcast_to(of_rows, (rows, heads[0], length, keys)) & (mx.arange(keys) != 3)
    masks: list[Any] = [None, "causal", seen, of_rows, by_head, numbers((length, keys), dtype)]
    for mask in masks:
        assert same(attention(q, k, v, scale=0.125, mask=mask), attention_of_mlx(q, k, v, scale=0.125, mask=mask))
    sinks = numbers((heads[0],), dtype)
    assert same(attention(q, k, v, scale=0.1, sinks=sinks), attention_of_mlx(q, k, v, scale=0.1, sinks=sinks))


@pytest.mark.parametrize("heads", [(4, 4), (9, 3)], ids=str)
@pytest.mark.parametrize("mask", [None, "causal"])
def test_attention_that_began_with_one_token_goes_on_as_in_mlx(heads: tuple[int, int], mask: str | None) -> None:
    for rows, length, keys in [(1, 1, 1), (1, 3, 3), (2, 1, 2000), (2, 40, 600)]:
        q, k = (numbers((rows, heads[index], count, 32), mx.float32) for index, count in enumerate((length, keys)))
        assert same(attention(q, k, k, scale=0.07, mask=mask), attention_of_mlx(q, k, k, scale=0.07, mask=mask))


def test_a_row_that_sees_nothing_is_as_in_mlx() -> None:
    q, k = numbers((1, 4, 2, 64), mx.float32), numbers((1, 2, 8, 64), mx.float32)
    mask = mx.zeros((2, 8), mx.bool_)
    assert same(attention(q, k, k, scale=0.125, mask=mask), attention_of_mlx(q, k, k, scale=0.125, mask=mask))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("rows", [1, 8, 16, 40])
def test_norms_are_as_in_mlx(dtype: mx.Dtype, rows: int) -> None:
    x, weight = numbers((rows, 1, 576), dtype), numbers((576,), dtype)
    for given in (weight, weight.astype(mx.float32), None):
        assert same(rms_norm(x, given, 1e-5), norm_of_mlx(x, given, 1e-5))
