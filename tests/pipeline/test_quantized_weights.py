"""Quantized weights, in each of MLX's modes or each layer in its own way, load and split like others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_flatten
from mlx_lm.utils import quantize_model

from mlxserve.models.loading import load_lazily

from .comparison import CONFIGS, Expected, split_in_one_process, tiny

MODES = {"affine": (64, 4), "mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}
"""Group size and bits of each."""


def by_layer(path: str, module: nn.Module) -> bool | dict[str, Any]:
    """The second layer in 8 bits, the third not at all, what is small in groups of its own."""
    if "layers.2." in path or not hasattr(module, "to_quantized"):
        return False
    return {"group_size": 32, "bits": 8 if "layers.1." in path else 4, "mode": "affine"}


def write_quantized(
    folder: Path, mode: str, predicate: Callable[[str, nn.Module], bool | dict[str, Any]] | None
) -> None:
    group_size, bits = MODES[mode]
    model, config = quantize_model(
        tiny("qwen3")(), dict(CONFIGS["qwen3"]), group_size, bits, mode=mode, quant_predicate=predicate
    )
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(model.parameters())))
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(("mode", "predicate"), [*((mode, None) for mode in MODES), ("affine", by_layer)])
def test_quantized_layers_over_several_ranks_give_the_logits_of_one_rank(
    tmp_path: Path, mode: str, predicate: Callable[[str, nn.Module], bool | dict[str, Any]] | None
) -> None:
    write_quantized(tmp_path, mode, predicate)

    def make() -> nn.Module:
        return load_lazily(tmp_path, "stored")

    kinds = {type(layer.mlp.down_proj) for layer in make().layers}
    assert kinds == ({nn.QuantizedLinear, nn.Linear} if predicate else {nn.QuantizedLinear})
    expected = Expected(make)
    assert expected.batchable
    for ranks in (2, 3):
        assert expected.differences(split_in_one_process(make, ranks, batchable=True)) == []
