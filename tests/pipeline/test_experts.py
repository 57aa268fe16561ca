"""Of a mixture of experts only those that are asked are read for a token; the trace sees how many."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

from mlxserve.config import Settings
from mlxserve.pipeline.experts import unread_bytes, watching_experts
from mlxserve.pipeline.loading import load_model
from mlxserve.pipeline.slots import find_layers

from .one_rank import CONFIGS, build


@pytest.mark.parametrize("model_type", ["olmoe", "qwen3_moe", "gpt_oss", "deepseek_v3"])
def test_a_trace_sees_what_a_token_does_not_read(model_type: str) -> None:
    model = build(model_type)
    ((_, layers),) = find_layers(model)
    config: dict[str, Any] = CONFIGS[model_type]
    asked = config["num_experts_per_tok"]
    experts = next(config[name] for name in ("num_experts", "num_local_experts", "n_routed_experts") if name in config)
    assert asked < experts
    held = [_bytes_of_experts(layer) for layer in layers]
    assert any(held)
    assert load_model(model, Settings()).trace.unread == [each * (experts - asked) // experts for each in held]


def _bytes_of_experts(layer: Any) -> int:
    modules = [module for module in layer.modules() if isinstance(module, SwitchLinear)]
    return sum(array.nbytes for module in modules for array in module.parameters().values())


def test_a_model_without_experts_is_read_whole() -> None:
    assert set(load_model(build("qwen2"), Settings()).trace.unread) == {0}


def test_quantized_experts_are_seen_too_and_afterwards_nobody_watches() -> None:
    plain = SwitchLinear(64, 32, 8, bias=False)
    originals = SwitchLinear.__call__, QuantizedSwitchLinear.__call__
    quantized = plain.to_quantized(group_size=32, bits=4)
    with watching_experts() as asked:
        quantized(mx.zeros((1, 1, 1, 64)), mx.array([[1, 5]]))
    whole = sum(array.nbytes for array in (quantized.weight, quantized.scales, quantized.biases))
    assert unread_bytes(quantized, asked) == whole * 6 // 8
    assert (SwitchLinear.__call__, QuantizedSwitchLinear.__call__) == originals
