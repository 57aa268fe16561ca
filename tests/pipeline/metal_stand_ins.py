"""What mlx-lm's own Metal kernels compute, in MLX's operations, for where there is no Metal."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx import nn
from mlx_lm.models import bitlinear_layers, muse_spark

NEEDS_METAL = {"bitnet", "muse_spark"}
"""Types whose layers compute by kernels that only Metal has."""
IS_NEEDED = not mx.metal.is_available()


def put_in_place() -> None:
    """Let the models call these functions in place of the kernels, where those cannot run."""
    if IS_NEEDED:
        bitlinear_layers._bitlinear_kernel = bitlinear
        for function in (
            *(expert_routing, norm_add_norm, post_expert_norm_combine, pre_norm),
            *(qk_norm, qk_norm_rope, rms_norm_sigmoid_gate),
        ):
            setattr(muse_spark, function.__name__, function)


def bitlinear(*, inputs: list[mx.array], template: list[tuple[str, Any]], **_launch: Any) -> list[mx.array]:
    """Of x [tokens, in], weights [out / 4, in] of four times two bits, 0 to 2 for -1 to 1, and their scale [1]."""
    x, packed, scale = inputs
    settings = dict(template)
    weights = mx.concatenate([(packed >> shift) & 3 for shift in (0, 2, 4, 6)]).astype(mx.float32) - 1
    factor = scale.astype(mx.float32)
    return [((x @ weights.T) * (1 / factor if settings["invert_weight_scales"] else factor)).astype(settings["T"])]


def expert_routing(
    logits: mx.array, expert_bias: mx.array, *, top_k: int, multiplier: float, score_eps: float, route_scale: float
) -> list[mx.array]:
    """Experts [..., top_k], the best first, and their weights. Of equal ones the first is the better."""
    scores = mx.sigmoid(logits * multiplier)
    experts = mx.argsort(-(scores + expert_bias), axis=-1)[..., :top_k].astype(mx.uint32)
    weights = mx.take_along_axis(scores, experts, axis=-1)
    return [experts, weights / (weights.sum(axis=-1, keepdims=True) + score_eps) * route_scale]


def norm_add_norm(
    branch: mx.array,
    stream: mx.array,
    *,
    alpha: mx.array,
    beta: mx.array,
    post_weight: mx.array | None,
    post_eps: float,
    next_norm: nn.RMSNorm | None,
) -> tuple[mx.array, mx.array | None]:
    """The float32 stream with the branch added, which is scaled and then normed, and the sum normed by `next_norm`."""
    if post_weight is not None:
        branch = post_weight.astype(branch.dtype) * branch
    total = alpha * stream + beta * mx.fast.rms_norm(branch, None, post_eps)
    return total, next_norm and pre_norm(total, next_norm, dtype=branch.dtype)


def pre_norm(stream: mx.array, norm: nn.RMSNorm, *, dtype: mx.Dtype) -> mx.array:
    """The float32 stream normed."""
    return (_normed(stream, norm.eps) * norm.weight).astype(dtype)


def post_expert_norm_combine(experts: mx.array, weights: mx.array, *, norm_weight: mx.array, eps: float) -> mx.array:
    """The sum [..., width] of experts [..., top_k, width], scaled and then normed, by their weights [..., top_k]."""
    normed = _normed(experts.astype(mx.float32) * norm_weight, eps)
    parts = normed * weights.astype(experts.dtype)[..., None]
    total = mx.zeros_like(experts[..., 0, :])
    for expert in range(experts.shape[-2]):
        total = (total + parts[..., expert, :]).astype(experts.dtype)
    return total


def qk_norm(
    qkvg: mx.array, *, n_heads: int, n_kv_heads: int, head_dim: int, eps: float, query_scale: float
) -> list[mx.array]:
    """Queries [..., n_heads, head_dim], normed and scaled, and keys [..., n_kv_heads, head_dim] that lead `qkvg`."""
    heads = qkvg.reshape(*qkvg.shape[:-1], -1, head_dim)[..., : n_heads + n_kv_heads, :]
    queries, keys = mx.split(mx.fast.rms_norm(heads, None, eps), [n_heads], axis=-2)
    return [(queries.astype(mx.float32) * query_scale).astype(qkvg.dtype), keys]


def qk_norm_rope(qkvg: mx.array, *, rope_base: float, offset: int | mx.array, **norm: Any) -> list[mx.array]:
    """`qk_norm`, rotated: row by row of `qkvg` [rows, length, width] from the position `offset` on."""
    return [
        mx.fast.rope(
            heads.swapaxes(1, 2), heads.shape[-1], traditional=True, base=rope_base, scale=1.0, offset=offset
        ).swapaxes(1, 2)
        for heads in qk_norm(qkvg, **norm)
    ]


def rms_norm_sigmoid_gate(x: mx.array, gate: mx.array, *, eps: float) -> mx.array:
    """Heads x [rows, heads, length, head_dim], normed and gated [rows, length, heads * head_dim]."""
    normed = _normed(x, eps).swapaxes(1, 2).reshape(gate.shape)
    return (normed * mx.sigmoid(gate.astype(mx.float32))).astype(x.dtype)


def _normed(x: mx.array, eps: float) -> mx.array:
    """In float32."""
    return mx.fast.rms_norm(x.astype(mx.float32), None, eps)
