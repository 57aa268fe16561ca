"""What MLX composes of many operations where it computes on the CPU, composed of fewer and faster ones.

On a GPU attention, norms and rotary positions are one kernel each. On the CPU `exp` within a softmax takes 12 ns an
element, as each multiplication with an addition in it is a call; in a kernel compiled for this machine's processor it
takes 0.5. And each operation takes 2 µs, however few numbers it has. All bits are those of MLX.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import mlx.core as mx

from mlxserve.pipeline.rotary import rope

_FEW_ROWS = 16
"""So many rows of a norm gain by fusing; of more, vectorized operations one by one are faster."""

attention_of_mlx = mx.fast.scaled_dot_product_attention
norm_of_mlx = mx.fast.rms_norm


def compose(compiles: bool) -> None:
    """Have models in this process use what is here, where MLX computes on the CPU.

    `compiles`: whether kernels are compiled for this machine's processor.
    """
    if mx.default_device() == mx.gpu:
        return
    mx.fast.rope = rope
    if compiles:
        mx.fast.scaled_dot_product_attention = attention
        mx.fast.rms_norm = rms_norm


def attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    *,
    scale: float,
    mask: str | mx.array | None = None,
    sinks: mx.array | None = None,
    **rest: Any,
) -> mx.array:
    """See `mx.fast.scaled_dot_product_attention`; it runs for what is rare."""
    rare = isinstance(mask, mx.array) and (mask.dtype != mx.bool_ or mask.ndim < 2)
    rare = rare or bool(rest) or sinks is not None or not q.dtype == k.dtype == v.dtype
    if rare or k.shape[2] == 1:  # compiled for any length, MLX's reductions of a single number end the process
        return attention_of_mlx(q, k, v, scale=scale, mask=mask, sinks=sinks, **rest)
    heads, repeats = k.shape[1], q.shape[1] // k.shape[1]
    if mask is None:
        return _attending(scale, heads, repeats, q.dtype, None)(q, k, v)
    seen = _causal(q.shape[2], k.shape[2]) if isinstance(mask, str) else mask
    if repeats > 1 and seen.ndim > 2:  # by head, as scores are then by the head of keys and the query's within it
        seen = mx.expand_dims(seen, -3) if seen.shape[-3] == 1 else mx.unflatten(seen, -3, (-1, repeats))
    return _attending(scale, heads, repeats, q.dtype, (1,) * (seen.ndim - 2))(q, k, v, seen)


@cache
def _attending(
    scale: float, heads: int, repeats: int, dtype: mx.Dtype, seen_by: tuple[int, ...] | None
) -> Callable[..., mx.array]:
    """Attention with `heads` of keys and `repeats` of queries for each, compiled for any rows, lengths and widths.

    `seen_by`: a one for each dimension that its mask has before lengths; None for no mask.
    """

    def attend(q: mx.array, k: mx.array, v: mx.array, seen: mx.array | None = None) -> mx.array:
        q = mx.array(scale, dtype) * q
        if repeats > 1:
            q, k, v = mx.unflatten(q, 1, (heads, repeats)), mx.expand_dims(k, 2), mx.expand_dims(v, 2)
        scores = q @ mx.swapaxes(k, -1, -2)
        if seen is not None:
            scores = mx.where(seen, scores, mx.array(mx.finfo(dtype).min, dtype))
        out = _softmax(scores.astype(mx.float32)).astype(dtype) @ v
        return mx.flatten(out, 1, 2) if repeats > 1 else out

    compiled = mx.compile(attend, shapeless=True)
    # Traced with lengths that all differ: where two are the same by chance, as with a single token, MLX leaves out what
    # repeats numbers along an axis, and reads beyond arrays once they differ.
    queries, keys = mx.zeros((2, heads * repeats, 3, 8), dtype), mx.zeros((2, heads, 5, 8), dtype)
    masks = [] if seen_by is None else [mx.ones((*seen_by, 3, 5), mx.bool_)]
    compiled(queries, keys, keys, *masks)
    return compiled


def _softmax(scores: mx.array) -> mx.array:
    """Over the last axis, in the order of MLX's `softmax.cpp` where a vector has one number, as on x86-64."""
    powers = mx.exp(scores - mx.max(scores, axis=-1, keepdims=True))
    return powers * (1 / mx.sum(powers, axis=-1, keepdims=True))


def _causal(length: int, keys: int) -> mx.array:
    """Which of `keys` each of the last `length` tokens sees: [length, keys]. Large, so none is kept for others."""
    return mx.arange(keys - length, keys)[:, None] >= mx.arange(keys)


def rms_norm(x: mx.array, weight: mx.array | None, eps: float, **rest: Any) -> mx.array:
    """See `mx.fast.rms_norm`; it runs for many rows."""
    width = x.shape[-1]
    many = x.size > _FEW_ROWS * width
    if many or rest or weight is None or weight.dtype != x.dtype or width == 1:  # see `attention`
        return norm_of_mlx(x, weight, eps, **rest)
    normed: mx.array = _norm(x, weight, _number(eps))
    return normed


@partial(mx.compile, shapeless=True)
def _norm(x: mx.array, weight: mx.array, eps: mx.array) -> mx.array:
    wide = x.astype(mx.float32)
    normed = wide * mx.rsqrt(mx.mean(mx.square(wide), axis=-1, keepdims=True) + eps)
    return weight * normed.astype(x.dtype)


@cache
def _number(value: float) -> mx.array:
    """An array, not a constant: for each of those a kernel would be compiled."""
    return mx.array(value, mx.float32)
