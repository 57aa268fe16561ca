"""The model that is measured: random weights, since speed does not depend on what a model has learnt."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import mlx.core as mx
from mlx_lm.models.qwen2 import Model, ModelArgs
from mlx_lm.utils import save_model

from mlxserve.models.cache import cache_folder, publish
from mlxserve.models.source import find_model

SPECIAL_TOKENS = 17
"""The demo model's tokenizer has them first, those that end an answer among them."""
CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 640,
    "num_hidden_layers": 14,
    "intermediate_size": 2048,
    "num_attention_heads": 10,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 4096,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}


def model_folder() -> Path:
    """An MLX folder of a float32 qwen2 of 100M parameters with the demo model's tokenizer, written once."""
    return publish(cache_folder() / "bench" / "qwen2-100m", _write)


def _write(folder: Path) -> None:
    demo = find_model("demo", print).folder
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(demo / name, folder)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2))
    save_model(folder, _model())


def _model() -> Model:
    """As mlx-lm initializes it, but special tokens embed as zeros.

    The head is tied, so their logits are 0 and never the largest: no answer ends before its last token.
    """
    mx.random.seed(0)
    model = Model(ModelArgs.from_dict(CONFIG))
    model.model.embed_tokens.weight[:SPECIAL_TOKENS] = 0
    return model
