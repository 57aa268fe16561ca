"""A model that lies in a folder: config.json, safetensors files and a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.nn as nn
from mlx_lm.utils import DEFAULT_ALLOW_PATTERNS, _get_classes, load_config

from mlxserve.config import Dtype
from mlxserve.errors import UserError
from mlxserve.models.loading import load_lazily
from mlxserve.models.progress import Report
from mlxserve.models.weight_header import WeightHeader

WEIGHT_FILES = "model*.safetensors"
"""What mlx-lm reads."""
SMALL_FILES = [pattern for pattern in DEFAULT_ALLOW_PATTERNS if pattern not in (WEIGHT_FILES, "*.py")]
"""What a model needs besides them."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "*.tiktoken", "tokenizer_config.json")


class ModelSource:
    """A model whose weight files are all in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        """Has config.json and all tokenizer files; the weights perhaps only partly."""
        self.config = read_config(folder)
        """As `mlx_lm.utils.load_config` gives it."""

    @property
    def commit(self) -> str:
        """Of the repository that it is a snapshot of; empty where it is none."""
        return ""

    @property
    def small_files(self) -> dict[str, Path]:
        """All files that are wanted besides the weights, by their names."""
        return {path.name: path for pattern in SMALL_FILES for path in sorted(self.folder.glob(pattern))}

    @property
    def weight_files(self) -> tuple[str, ...]:
        """The names of all weight files, here or not."""
        return tuple(sorted(path.name for path in self.folder.glob(WEIGHT_FILES)))

    def is_here(self, file: str) -> bool:
        """Whether a weight file need not be brought."""
        return True

    @property
    def is_whole(self) -> bool:
        """Whether that is so for all."""
        return all(map(self.is_here, self.weight_files))

    def bring(self, file: str, report: Report) -> Path:
        """Where a weight file is, once it is here. Raises UserError. May be called in any thread."""
        return self.folder / file

    def fetch(self, wanted: Callable[[str], bool], report: Report) -> bool:
        """Get each weight file or tensor that is `wanted` by the tensor's name; True if any had to be fetched."""
        return False

    def load(self, dtype: Dtype) -> nn.Module:
        """The whole model, lazy: nothing is read from disk until it is evaluated.

        Weights that are not here are zeros of the right shape. Must be called on the thread that will evaluate.
        """
        return load_lazily(self.folder, dtype)

    def close(self) -> None:
        """Nothing will be fetched or loaded any more; what was loaded stays."""


def open_folder(folder: Path) -> ModelSource:
    """Raises UserError for anything that is missing or broken in it."""
    source = ModelSource(folder)
    files = sorted(folder.glob(WEIGHT_FILES))
    if not files:
        raise UserError(f"{folder} has no weights ({WEIGHT_FILES}): {_instead_of_weights(folder)}")
    for file in files:
        WeightHeader.read(file)
    if not any(any(folder.glob(pattern)) for pattern in TOKENIZER_FILES):
        raise UserError(f"{folder} has no tokenizer (tokenizer.json): copy the model's tokenizer files there.")
    return source


def read_config(folder: Path) -> dict[str, Any]:
    """The model's config, of a type that mlx-lm knows."""
    path = folder / "config.json"
    try:
        config: dict[str, Any] = load_config(folder)
    except FileNotFoundError:
        raise UserError(f"{folder} has no config.json: it must be a folder of an MLX or Hugging Face model.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON ({error}): get it again.") from error
    except (AttributeError, TypeError):
        raise UserError(f"{path} is not a JSON object: get it again.") from None
    _check_type(config, path)
    return config


def _check_type(config: Any, path: Path) -> None:
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if not isinstance(model_type, str):
        raise UserError(f"{path} names no model_type: it must be the config of a language model.")
    try:
        _get_classes(config)
    except (ValueError, AttributeError):
        raise UserError(f"{path} has the model type {model_type!r}, which this version of mlx-lm cannot run.") from None
    except SystemExit:  # of models that need a package beside mlx-lm
        raise UserError(f"{path} has the model type {model_type!r}, which needs a package that is not here.") from None


def _instead_of_weights(folder: Path) -> str:
    if any(folder.glob("*.gguf")):
        return "name its .gguf file itself instead of the folder."
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt*")):
        return "convert the PyTorch files with `mlx_lm.convert`."
    return "copy the model's safetensors files there."
