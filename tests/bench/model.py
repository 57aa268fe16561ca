"""The models that are measured, as MLX folders in float32, written once into the cache.

One has random weights, since speed does not depend on what a model has learnt. The other is the packaged one, for what
does depend on it: text that repeats itself, or does not.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.models.qwen2 import Model, ModelArgs
from mlx_lm.utils import dequantize_model, load_model, save_model

from mlxserve.models.cache import cache_folder, publish
from mlxserve.models.source import find_model

SPECIAL_TOKENS = 17
"""The demo model's tokenizer has them first, those that end an answer among them."""
NEVER_WRITTEN = "<empty_output>", 16
"""One of those that no answer contains."""
LAYERS = 14
CONFIG = {
    "model_type": "qwen2",
    "hidden_size": 640,
    "num_hidden_layers": LAYERS,
    "intermediate_size": 2048,
    "num_attention_heads": 10,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 4096,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "eos_token_id": 2,
}


@functools.cache
def random_folder() -> Path:
    """A qwen2 of 100M parameters with the packaged model's tokenizer."""
    return publish(cache_folder() / "bench" / "qwen2-100m", _write_random)


@functools.cache
def packaged_folder() -> Path:
    """The packaged SmolLM2 of 135M parameters, its weights as they are but stored in float32."""
    return publish(cache_folder() / "bench" / "smollm2-float32", _write_packaged)


@functools.cache
def endless_folder() -> Path:
    """The packaged model as `packaged_folder` has it, but what ends its answers is a token that it does not write.

    Answers then have all their tokens. Rows that end early now and then are no measure of a server's speed: whose
    requests have been together so far no longer are, by what a subject was asked and not by what it does.
    """
    return publish(cache_folder() / "bench" / "smollm2-float32-endless", _write_endless)


def _write_random(folder: Path) -> None:
    _copy_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2))
    save_model(folder, _random_model())


def _write_packaged(folder: Path) -> None:
    source = find_model("demo", print).folder
    _copy_tokenizer(folder)
    config = json.loads((source / "config.json").read_text())
    model = dequantize_model(load_model(source)[0])
    model.update(tree_map(lambda weights: weights.astype(mx.float32), model.parameters()))
    for name in ("quantization", "quantization_config"):
        config.pop(name, None)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    save_model(folder, model)


def _write_endless(folder: Path) -> None:
    token, number = NEVER_WRITTEN
    for file in packaged_folder().iterdir():
        os.link(file, folder / file.name)
    for name, change in (("config.json", {"eos_token_id": number}), ("tokenizer_config.json", {"eos_token": token})):
        changed = json.loads((folder / name).read_text()) | change
        (folder / name).unlink()
        (folder / name).write_text(json.dumps(changed, indent=2))


def _copy_tokenizer(folder: Path) -> None:
    source = find_model("demo", print).folder
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(source / name, folder)


def _random_model() -> Model:
    """As mlx-lm initializes it, but special tokens embed as zeros.

    The head is tied, so their logits are 0 and never the largest: no answer ends before its last token.
    """
    mx.random.seed(0)
    model = Model(ModelArgs.from_dict(CONFIG))
    model.model.embed_tokens.weight[:SPECIAL_TOKENS] = 0
    return model
