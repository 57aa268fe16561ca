"""How many tokens a model can hold, as its config says."""

from __future__ import annotations

from typing import Any

_NAMES = ("max_position_embeddings", "max_sequence_length", "n_positions", "max_seq_len", "seq_length", "n_ctx")
_SCALINGS = ("rope_scaling", "rope_parameters")
_UNKNOWN = 32_768
"""Assumed where a config says nothing, as recurrent models' do."""


def context_length(config: dict[str, Any]) -> int:
    """Tokens of prompt and answer together that the model was trained for, or that its rope scaling stretches it to."""
    for part in (config, config.get("text_config") or {}):
        for name in _NAMES:
            value = part.get(name)
            if isinstance(value, int) and value > 0:
                return max(value, _stretched(part))
    return _UNKNOWN


def _stretched(config: dict[str, Any]) -> int:
    """What YaRN makes of the trained length, which configs give as max_position_embeddings; 0: there is none.

    Of the other kinds configs give the length as it is after scaling.
    """
    for name in _SCALINGS:
        scaling = config.get(name)
        if isinstance(scaling, dict) and "yarn" in (scaling.get("rope_type"), scaling.get("type")):
            trained, factor = scaling.get("original_max_position_embeddings"), scaling.get("factor")
            if isinstance(trained, int) and isinstance(factor, int | float):
                return int(trained * factor)
    return 0
