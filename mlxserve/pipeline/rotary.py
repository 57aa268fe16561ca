"""Rotary positions where MLX computes on the CPU: sines and cosines once a pass, and not once a call.

`mx.fast.rope` is one kernel on a GPU. On the CPU it is twenty operations, half of which find the same sines and cosines
in every layer, for its queries and for its keys. All bits are those of MLX.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import mlx.core as mx

_KEPT = 4
"""Batches take turns, and some models turn by several frequencies; each is a few megabytes for a long chunk."""
_unchanging: dict[int, mx.array] = {}

rope_of_mlx = mx.fast.rope


def unchanging(positions: mx.array) -> mx.array:
    """`positions`, of which it is known from now on, for a while, that nobody writes into them."""
    _unchanging[id(positions)] = positions
    while len(_unchanging) > _KEPT:
        del _unchanging[next(iter(_unchanging))]
    return positions


def rope(
    a: mx.array,
    dims: int,
    *,
    traditional: bool,
    base: float | None,
    scale: float,
    offset: int | mx.array,
    freqs: mx.array | None = None,
    **rest: Any,
) -> mx.array:
    """See `mx.fast.rope`; it runs wherever positions may have been written into since they were last seen."""
    known = isinstance(offset, int) or _unchanging.get(id(offset)) is offset
    if not known or a.ndim != 4 or rest:
        return rope_of_mlx(a, dims, traditional=traditional, base=base, scale=scale, offset=offset, freqs=freqs, **rest)
    cosines, sines = _turns(offset, a.shape[2], dims, base, scale, freqs, a.dtype, traditional)
    turning = a if dims == a.shape[-1] else a[..., :dims]
    if traditional:
        even, odd = turning[..., ::2], turning[..., 1::2]
        pairs = [even * cosines - odd * sines, even * sines + odd * cosines]
        turned = mx.flatten(mx.stack(pairs, axis=-1), -2)
    else:
        turned = turning * cosines + mx.roll(turning, dims // 2, -1) * sines
    return turned if dims == a.shape[-1] else mx.concatenate([turned, a[..., dims:]], axis=-1)


@lru_cache(maxsize=_KEPT)
def _turns(
    offset: int | mx.array,
    length: int,
    dims: int,
    base: float | None,
    scale: float,
    freqs: mx.array | None,
    dtype: mx.Dtype,
    traditional: bool,
) -> tuple[mx.array, mx.array]:
    """Cosines and sines for tokens from `offset` on: [rows or none, 1, length, dims], of pairs if `traditional`.

    Those for pairs are half as wide. The others stand for both halves, sines with the sign that the half wants.
    Operations and types are those of MLX's `fast.cpp`.
    """
    half = dims // 2
    if isinstance(offset, mx.array) and offset.size > 1:
        offset = mx.expand_dims(offset, (-1, -2))
    if freqs is None:
        assert base is not None
        step = mx.log(mx.array(base, mx.float32)) / half
        rates = mx.exp(mx.arange(0, -half, -1, dtype=mx.float32) * step)
    else:
        rates = mx.reciprocal(freqs.astype(mx.float32))
    positions = (mx.arange(length, dtype=mx.float32) + offset) * scale
    angles = positions[..., None] * rates
    cosines, sines = mx.cos(angles).astype(dtype), mx.sin(angles).astype(dtype)
    if traditional:
        return cosines, sines
    return mx.concatenate([cosines, cosines], axis=-1), mx.concatenate([-sines, sines], axis=-1)
