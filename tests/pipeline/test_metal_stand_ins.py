from __future__ import annotations

import mlx.core as mx
import pytest
from mlx import nn

from . import metal_stand_ins


def test_packed_weights_are_taken_apart_by_quarters_of_the_outputs() -> None:
    packed = mx.array([[0b10_01_00_10]], mx.uint8)
    settings = [("T", mx.float32), ("invert_weight_scales", True)]
    (out,) = metal_stand_ins.bitlinear(inputs=[mx.array([[6.0]]), packed, mx.array([2.0])], template=settings)
    assert out.tolist() == [[3.0, -3.0, 0.0, 3.0]]


def test_of_equally_good_experts_the_first_is_chosen_and_bias_does_not_weigh() -> None:
    logits, bias = mx.array([[0.0, 0.0, 0.0, -100.0]]), mx.array([0.0, 1.0, 0.0, 0.0])
    experts, weights = metal_stand_ins.expert_routing(
        logits, bias, top_k=2, multiplier=1.0, score_eps=0.0, route_scale=3.0
    )
    assert experts.tolist() == [[1, 0]]
    assert weights.tolist() == [[1.5, 1.5]]


@pytest.mark.skipif(metal_stand_ins.IS_NEEDED, reason="the kernels run on Metal only")
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_stand_ins_give_what_the_kernels_give(dtype: mx.Dtype) -> None:
    from mlx_lm import kernels

    mx.random.seed(0)
    norm = nn.RMSNorm(64)
    branch, stream, alpha, beta, weight = (
        mx.random.normal(shape) for shape in [(2, 3, 64), (2, 3, 64), (64,), (64,), (64,)]
    )
    branch, norm.weight = branch.astype(dtype), weight.astype(dtype)
    gates = {"alpha": alpha, "beta": beta, "post_weight": norm.weight, "post_eps": 1e-5, "next_norm": norm}
    heads = {"n_heads": 2, "n_kv_heads": 1, "head_dim": 16, "eps": 1e-5, "query_scale": 1.5}
    qkvg = mx.random.normal((2, 3, 96)).astype(dtype)
    rope = {**heads, "rope_base": 10000.0, "offset": mx.array([4, 9])}
    experts, weights = mx.random.normal((2, 3, 4, 64)).astype(dtype), mx.random.uniform(shape=(2, 3, 4))
    combine = {"norm_weight": norm.weight, "eps": 1e-5}
    attention = mx.random.normal((2, 2, 3, 16)).astype(dtype)
    for name, arrays, settings in [
        ("norm_add_norm", [branch, stream], gates),
        ("qk_norm", [qkvg], heads),
        ("qk_norm_rope", [qkvg], rope),
        ("post_expert_norm_combine", [experts, weights], combine),
        ("rms_norm_sigmoid_gate", [attention, qkvg[..., :32]], {"eps": 1e-5}),
    ]:
        found, expected = (getattr(module, name)(*arrays, **settings) for module in (metal_stand_ins, kernels))
        for one, other in zip(found, expected, strict=True):
            assert mx.allclose(one.astype(mx.float32), other.astype(mx.float32), rtol=2e-2, atol=2e-2).item(), name
