"""Adapters as mlx-lm writes them, with random weights in place of trained ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load_model

LAYERS = 3
"""The last of the model's four."""


def write_adapter(
    folder: Path, model: Path, kind: str = "lora", rank: int = 4, layers: int = LAYERS, size: float = 0.1
) -> Path:
    """For the model in the folder `model`; the larger `size`, that of its numbers, the more it changes."""
    parameters: dict[str, Any] = {"rank": rank, "scale": 4.0, "dropout": 0.5}
    base, _ = load_model(model, lazy=True)
    base.freeze()
    linear_to_lora_layers(base, layers, parameters, use_dora=kind == "dora")
    mx.random.seed(7)
    weights = {
        name: mx.random.normal(array.shape) * size + (name.rpartition(".")[2] == "m")
        for name, array in tree_flatten(base.trainable_parameters())
    }
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(
        json.dumps({"fine_tune_type": kind, "num_layers": layers, "lora_parameters": parameters})
    )
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
    return folder
