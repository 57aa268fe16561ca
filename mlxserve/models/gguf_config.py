"""config.json from a GGUF file's metadata."""

from __future__ import annotations

from collections import Counter
from typing import Any

import mlx.core as mx
import numpy as np
from mlx_lm.models.rope_utils import Llama3RoPE

from mlxserve.errors import UserError
from mlxserve.models.gguf import GgufFile
from mlxserve.models.gguf_blocks import BITS
from mlxserve.models.gguf_family import ROPE_FACTORS, Family, mlx_name
from mlxserve.models.gguf_groups import GROUP

ENDS_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|endoftext|>", "<end_of_turn>")
"""Control tokens that end an answer whatever the metadata name, as in llama.cpp."""
LLAMA3_ROPE = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA3_CONTEXT = 8192


def config_of(file: GgufFile, family: Family) -> dict[str, Any]:
    """Raises UserError if a needed key is missing or the rotary embedding is of an unknown kind."""
    heads = file.number("attention.head_count")
    width = file.number("embedding_length")
    head_dim = file.number("attention.key_length", width // heads)
    if file.number("rope.dimension_count", head_dim) != head_dim:
        raise UserError(f"{file.path} rotates only a part of each head, which is not supported for GGUF files.")
    context = file.number("context_length")
    base = float(file.number("rope.freq_base", 10000.0))
    return {
        "model_type": family.model_type,
        "architectures": [family.hf_class],
        "hidden_size": width,
        "num_hidden_layers": file.number("block_count"),
        "intermediate_size": file.number("feed_forward_length"),
        "num_attention_heads": heads,
        "num_key_value_heads": file.number("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "rms_norm_eps": float(file.number("attention.layer_norm_rms_epsilon")),
        "max_position_embeddings": context,
        "rope_theta": base,
        "rope_scaling": _rope_scaling(file, head_dim, base, context),
        "vocab_size": _rows(file, "token_embd.weight"),
        "tie_word_embeddings": "output.weight" not in file.tensors,
        "attention_bias": "blk.0.attn_output.bias" in file.tensors,
        "mlp_bias": "blk.0.ffn_down.bias" in file.tensors,
        **family.own_config(file),
        **_special_tokens(file),
        **_quantization(file, family),
    }


def _rows(file: GgufFile, name: str) -> int:
    if name not in file.tensors:
        raise UserError(f"{file.path} has no tensor {name!r}: it is not a whole language model.")
    return file.tensors[name].shape[0]


def _rope_scaling(file: GgufFile, head_dim: int, base: float, context: int) -> dict[str, Any] | None:
    if ROPE_FACTORS in file.tensors:
        return _llama3_scaling(file, head_dim, base)
    kind, factor = file.setting("rope.scaling.type", "none"), file.setting("rope.scaling.factor", 0.0)
    if kind == "none" or not factor:
        return None
    if kind == "linear":
        return {"type": "linear", "factor": factor}
    if kind == "yarn":
        original = file.setting("rope.scaling.original_context_length", context)
        return {"type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    raise UserError(f"{file.path} has the rope scaling {kind!r}: only none, linear, yarn and llama3 are supported.")


def _llama3_scaling(file: GgufFile, head_dim: int, base: float) -> dict[str, Any]:
    """The file has the result of Llama 3's formula: find the factor in it, and see that the formula gives the rest."""
    tensor = file.tensors[ROPE_FACTORS]
    factors = np.fromfile(file.path, np.float32, tensor.size, offset=tensor.start)
    scaling = {**LLAMA3_ROPE, "factor": float(factors.max()), "original_max_position_embeddings": LLAMA3_CONTEXT}
    plain = base ** (np.arange(0, head_dim, 2) / head_dim)
    expected = np.array(Llama3RoPE(head_dim, base=base, scaling_config=scaling)._freqs.astype(mx.float32)) / plain
    if factors.shape != expected.shape or not np.allclose(factors, expected, rtol=1e-3):
        raise UserError(f"{file.path} has rope factors that do not follow Llama 3's formula: they are not supported.")
    return scaling


def _special_tokens(file: GgufFile) -> dict[str, Any]:
    metadata = file.metadata
    tokens: list[str] = metadata.get("tokenizer.ggml.tokens", [])
    named = [metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot", "eom")]
    known = [tokens.index(token) for token in ENDS_OF_TURN if token in tokens]
    ends = list(dict.fromkeys(token for token in (*named, *known) if token is not None))
    bos = metadata.get("tokenizer.ggml.bos_token_id")
    return {"eos_token_id": ends} | ({} if bos is None else {"bos_token_id": bos})


def _quantization(file: GgufFile, family: Family) -> dict[str, Any]:
    """The commonest width of the quantized layers, and by name those that have another."""
    bits = {
        mlx_name(file, family, t.name).removesuffix(".weight"): BITS[t.type]
        for t in file.tensors.values()
        if t.type in BITS
    }
    if not bits:
        return {}
    [(common, _)] = Counter(bits.values()).most_common(1)
    others = {layer: {"group_size": GROUP, "bits": width} for layer, width in bits.items() if width != common}
    return {"quantization": {"group_size": GROUP, "bits": common, **others}}
