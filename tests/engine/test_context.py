"""The context is what the model was trained for or is stretched to, and more only where that is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from mlxserve.engine.context import context_length

YARN = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768}


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"max_position_embeddings": 8192}, 8192),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 4096}}, 4096),
        ({}, 32_768),
        ({"max_position_embeddings": 32_768, "rope_scaling": YARN}, 131_072),
        ({"text_config": {"max_position_embeddings": 32_768, "rope_parameters": YARN}}, 131_072),
        ({"max_position_embeddings": 163_840, "rope_scaling": YARN}, 163_840),
        ({"max_position_embeddings": 32_768, "rope_scaling": {"rope_type": "yarn"}}, 32_768),
    ],
)
def test_the_config_says_how_many_tokens_there_are(config: dict[str, Any], tokens: int) -> None:
    assert context_length(config) == tokens


def test_llama_3_names_the_length_that_its_scaling_makes() -> None:
    scaling = {"rope_type": "llama3", "factor": 32.0, "original_max_position_embeddings": 8192}
    assert context_length({"max_position_embeddings": 131_072, "rope_scaling": scaling}) == 131_072
