"""A tiny model of each type of mlx-lm, with the same random weights each time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map
from mlx_lm.utils import _get_classes

from . import metal_stand_ins

CONFIGS: dict[str, dict[str, Any]] = {
    entry["model_type"]: entry["config"]
    for entry in json.loads(Path(__file__).with_name("model-configs.json").read_text())
}


def instantiate(config: dict[str, Any]) -> nn.Module:
    """The model of this `config`, which can be run where there is no Metal too."""
    metal_stand_ins.put_in_place()
    mx.random.seed(0)
    model_class, arguments = _get_classes(config)
    model: nn.Module = model_class(arguments.from_dict(config))
    model.update(tree_map(_not_zero, model.parameters()))
    model.eval()
    return model


def _not_zero(weights: mx.array) -> mx.array:
    """`weights`, or random ones for those that stay zero until a file is read: routers, biases, packed ternary ones."""
    if weights.any().item():
        return weights
    if weights.dtype == mx.uint8:
        values = mx.random.randint(0, 3, (4, *weights.shape), mx.uint8)
        return values[0] | values[1] << 2 | values[2] << 4 | values[3] << 6
    return (0.1 * mx.random.normal(weights.shape)).astype(weights.dtype)
