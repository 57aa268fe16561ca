"""A small random model in a folder, with a tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx

from tests.models.tiny import tiny_config, tiny_weights
from tests.text.tokenizer_folder import write_tokenizer_folder

VOCABULARY = 330
"""A few more than the tokenizer knows."""


def write_small_model(folder: Path, **changes: Any) -> Path:
    """A llama of the tests' tiny config with `changes`."""
    folder.mkdir()
    write_tokenizer_folder(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= tiny_config("llama", vocab_size=VOCABULARY, eos_token_id=config["eos_token_id"]) | changes
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), tiny_weights(config))
    return folder
