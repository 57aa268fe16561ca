"""Tiny random models, as MLX folders and as GGUF files of the same weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from mlx_lm.utils import _get_classes
from tokenizers import pre_tokenizers

from mlxserve.models.gguf_family import FAMILIES, OTHER_PARTS, Family

from .gguf_writer import quantize, write_gguf

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, LAYERS = 64, 4, 2, 16, 4
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LETTERS = sorted(pre_tokenizers.ByteLevel.alphabet())
MERGES = ["Ġ h", "e l", "l o", "el lo", "Ġh ello"]
TOKENS = [*SPECIAL, *LETTERS, *(merge.replace(" ", "") for merge in MERGES)]
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


def tiny_config(model_type: str, **more: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "intermediate_size": 96,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 512,
        "rope_theta": 10000.0,
        "vocab_size": len(TOKENS),
        "tie_word_embeddings": False,
        "eos_token_id": 2,
        **more,
    }


def tiny_weights(config: dict[str, Any], seed: int = 0) -> dict[str, mx.array]:
    """Random, and exact in float16."""
    model_class, args_class = _get_classes(config)
    mx.random.seed(seed)
    shapes = {name: w.shape for name, w in tree_flatten(model_class(args_class.from_dict(config)).parameters())}
    weights = {name: mx.random.normal(shape) * 0.3 + ("norm" in name) for name, shape in shapes.items()}
    return {name: w.astype(mx.float16).astype(mx.float32) for name, w in weights.items()}


def tiny_gemma3(**more: Any) -> dict[str, Any]:
    """With a window of a few tokens in all layers but the last."""
    sliding = {"sliding_window": 4, "sliding_window_pattern": LAYERS, "rope_local_base_freq": 100.0}
    return tiny_config("gemma3_text", query_pre_attn_scalar=HEAD_DIM, tie_word_embeddings=True, **sliding, **more)


def write_folder(folder: Path, config: dict[str, Any], weights: dict[str, mx.array]) -> Path:
    """One shard a layer and one for the rest, with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    names = {name: _shard(name) for name in weights}
    for file in sorted(set(names.values())):
        mx.save_safetensors(str(folder / file), {n: w for n, w in weights.items() if names[n] == file})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    return folder


def _shard(name: str) -> str:
    layer = int(name.split(".")[2]) + 2 if name.startswith("model.layers.") else 1
    return f"model-{layer:05d}-of-{LAYERS + 1:05d}.safetensors"


def gguf_metadata(config: dict[str, Any], pre: str) -> dict[str, Any]:
    family = _architecture(config)
    sliding = {
        "attention.sliding_window": "sliding_window",
        "attention.sliding_window_pattern": "sliding_window_pattern",
        "rope.freq_base_swa": "rope_local_base_freq",
    }
    return {
        **{f"{family}.{key}": config[name] for key, name in sliding.items() if name in config},
        "general.architecture": family,
        f"{family}.embedding_length": config["hidden_size"],
        f"{family}.block_count": config["num_hidden_layers"],
        f"{family}.feed_forward_length": config["intermediate_size"],
        f"{family}.attention.head_count": config["num_attention_heads"],
        f"{family}.attention.head_count_kv": config["num_key_value_heads"],
        f"{family}.attention.key_length": config["head_dim"],
        f"{family}.attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        f"{family}.context_length": config["max_position_embeddings"],
        f"{family}.rope.freq_base": config["rope_theta"],
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.token_type": [3] * len(SPECIAL) + [1] * (len(TOKENS) - len(SPECIAL)),
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.chat_template": TEMPLATE,
    }


def write_tiny_gguf(
    path: Path, config: dict[str, Any], weights: dict[str, mx.array], kind: str, pre: str = "qwen2", **metadata: Any
) -> dict[str, mx.array]:
    """Write the weights as llama.cpp's converter would; returns what they are after quantization."""
    tensors, rounded = [], {}
    family = FAMILIES[_architecture(config)]
    for name, weight in weights.items():
        values = np.array(weight)
        stored = kind if values.ndim > 1 else "F32"
        rounded[name] = mx.array(quantize(values, stored)[1])
        if family.interleaved_rotary and ("q_proj" in name or "k_proj" in name):
            values = _interleaved(values, HEADS if "q_proj" in name else KV_HEADS)
        if family.norms_with_one and "norm" in name:
            values = values + 1
        tensors.append((_gguf_name(name, family), stored, values.shape, quantize(values, stored)[0]))
    write_gguf(path, gguf_metadata(config, pre) | metadata, tensors)
    return rounded


def _interleaved(values: np.ndarray, heads: int) -> np.ndarray:
    """`LlamaModel.permute` of convert_hf_to_gguf.py."""
    halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _architecture(config: dict[str, Any]) -> str:
    """As llama.cpp calls it."""
    return next(name for name, family in FAMILIES.items() if family.model_type == config["model_type"])


def _gguf_name(name: str, family: Family) -> str:
    module, _, kind = name.rpartition(".")
    if module.startswith("model.layers."):
        layer, part = module.removeprefix("model.layers.").split(".", 1)
        return f"blk.{layer}.{ {v: k for k, v in family.layer_parts.items()}[part] }.{kind}"
    return f"{ {v: k for k, v in OTHER_PARTS.items()}[module] }.{kind}"


def logits(model: nn.Module) -> mx.array:
    return model(mx.array([[5, 9, 30, 77, 2, 100]]))
