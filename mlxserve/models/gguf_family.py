"""How the architectures that GGUF files come in are called and laid out in mlx-lm."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from mlxserve.errors import UserError
from mlxserve.models.gguf import GgufFile
from mlxserve.models.gguf_blocks import SUPPORTED, bytes_of
from mlxserve.models.gguf_gemma3 import gemma3_config

LAYER_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
GEMMA3_PARTS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
OTHER_PARTS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
ROPE_FACTORS = "rope_freqs.weight"
"""Llama 3's frequency factors: read into the config, no weight."""
LAYER_TENSOR = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")


class Family(msgspec.Struct, frozen=True):
    """One architecture."""

    model_type: str
    hf_class: str
    interleaved_rotary: bool = False
    """llama.cpp's converter reorders the rows of q and k of this family so that rotated pairs are neighbours."""
    norms_with_one: bool = False
    """The converter adds the 1 to the weights of norms that mlx-lm adds when it computes."""
    own_parts: dict[str, str] = {}
    """What is called otherwise than in LAYER_PARTS."""
    own_config: Callable[[GgufFile], dict[str, Any]] = lambda file: {}
    """What config.json has for this family only."""

    @property
    def layer_parts(self) -> dict[str, str]:
        """Modules of a layer by GGUF's names."""
        return LAYER_PARTS | self.own_parts


FAMILIES = {
    "llama": Family("llama", "LlamaForCausalLM", interleaved_rotary=True),
    "qwen2": Family("qwen2", "Qwen2ForCausalLM"),
    "qwen3": Family("qwen3", "Qwen3ForCausalLM"),
    "gemma3": Family(
        "gemma3_text", "Gemma3ForCausalLM", norms_with_one=True, own_parts=GEMMA3_PARTS, own_config=gemma3_config
    ),
}


def family_of(file: GgufFile) -> Family:
    """Raises UserError if the file's architecture, or anything about its tensors, is not supported."""
    architecture = file.metadata.get("general.architecture", "unknown")
    if architecture not in FAMILIES or f"{architecture}.expert_count" in file.metadata:
        kind = architecture if architecture not in FAMILIES else f"{architecture} with experts"
        raise UserError(
            f"{file.path} has the architecture {kind!r}: of GGUF files only {_list(FAMILIES)} are supported."
        )
    if file.metadata.get("split.count", 1) > 1:
        raise UserError(f"{file.path} is one part of several: join them with `llama-gguf-split --merge` first.")
    _check_types(file)
    _check_length(file)
    return FAMILIES[architecture]


def mlx_name(file: GgufFile, family: Family, name: str) -> str:
    """The module path and kind (`.weight`, `.bias`) that mlx-lm has for a tensor."""
    if match := LAYER_TENSOR.fullmatch(name):
        layer, part, kind = match.groups()
        if part in family.layer_parts:
            return f"model.layers.{layer}.{family.layer_parts[part]}.{kind}"
    part, _, kind = name.rpartition(".")
    if part in OTHER_PARTS:
        return f"{OTHER_PARTS[part]}.{kind}"
    raise UserError(f"{file.path} has a tensor {name!r} that its architecture does not have in mlx-lm.")


def _check_types(file: GgufFile) -> None:
    refused = Counter(t.type for t in file.tensors.values() if t.type not in SUPPORTED)
    if refused:
        found = ", ".join(f"{kind} ({count} tensors)" for kind, count in sorted(refused.items()))
        raise UserError(
            f"{file.path} is quantized as {found}: only {_list(SUPPORTED)} are supported; "
            "get such a file, or the MLX version of the model."
        )


def _check_length(file: GgufFile) -> None:
    needed = max((t.start + bytes_of(t) for t in file.tensors.values()), default=0)
    if (size := file.path.stat().st_size) < needed:
        raise UserError(f"{file.path} is cut short: it has {size:,} of {needed:,} bytes; get it again.")


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
