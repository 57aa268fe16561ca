"""A small random model in a folder, with a tokenizer, and servers of it that compute alike whatever their ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mlx.core as mx

from tests.models.tiny import tiny_config, tiny_weights
from tests.ports import free_port
from tests.system.server import Server, serve_command
from tests.text.tokenizer_folder import write_tokenizer_folder

ALIKE = ("--prefill-step-size", "512", "--speculation", "off")
"""Products of the same shapes: a random model's tokens are so near to each other that rounding tips the scale."""
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
"""A rank alone on its machine would take more, and more threads round otherwise."""
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


def start_small(ranks: int, model: str, *flags: str) -> Server:
    """Start a server of the model in the folder `model`; not waited for."""
    port = free_port()
    return Server(serve_command(ranks, port, *ALIKE, *flags, model=model), port, ONE_THREAD)
