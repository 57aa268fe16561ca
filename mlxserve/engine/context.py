"""How many tokens a model can hold, as its config says."""

from __future__ import annotations

from typing import Any

_NAMES = ("max_position_embeddings", "max_sequence_length", "n_positions", "max_seq_len", "seq_length", "n_ctx")
_UNKNOWN = 32_768
"""Assumed where a config says nothing, as recurrent models' do."""


def context_length(config: dict[str, Any]) -> int:
    """Tokens of prompt and answer together."""
    for part in (config, config.get("text_config") or {}):
        for name in _NAMES:
            value = part.get(name)
            if isinstance(value, int) and value > 0:
                return value
    return _UNKNOWN
