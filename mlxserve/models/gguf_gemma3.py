"""What Gemma 3's config has beyond that of other models, as llama.cpp knows it: most of it stands in no file.

Values: `llama_model_gemma3::load_arch_hparams`, https://github.com/ggml-org/llama.cpp/blob/master/src/models/gemma3.cpp
"""

from __future__ import annotations

from typing import Any

from mlxserve.models.gguf import GgufFile

LAYERS_OF_27B = 62
"""This one size scales its queries by its width for each head, all others by the heads' own width."""


def gemma3_config(file: GgufFile) -> dict[str, Any]:
    """Raises UserError if a needed key is missing."""
    heads, width = file.number("attention.head_count"), file.number("embedding_length")
    largest = file.number("block_count") == LAYERS_OF_27B
    return {
        "sliding_window": file.number("attention.sliding_window"),
        "sliding_window_pattern": file.number("attention.sliding_window_pattern", 6),
        "rope_local_base_freq": float(file.number("rope.freq_base_swa", 10000.0)),
        "query_pre_attn_scalar": width // heads if largest else file.number("attention.key_length"),
    }
