"""Building a model from a folder without reading its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map_with_path
from mlx_lm.utils import _get_classes, load_model

from mlxserve.config import Dtype
from mlxserve.errors import UserError
from mlxserve.models.dequantizing import dequantize


def load_lazily(folder: Path, dtype: Dtype, name: str = "", given: Mapping[str, mx.array] | None = None) -> nn.Module:
    """The model in `folder` (called `name` in errors) in `dtype`; no weight is read or evaluated.

    `given`: the bytes of tensors that take the place of those in the folder's files, by their names there.
    """
    try:
        model, _ = load_model(folder, lazy=True, get_model_classes=_Given(given or {}).classes)
    except Exception as error:  # whatever a broken model makes mlx-lm or MLX raise
        sentence = " ".join(str(error).split())
        raise UserError(f"The model {name or folder} cannot be loaded: {sentence[:400]}") from error
    if given:
        del model.sanitize  # it holds what was given
    if (target := resolve(dtype)) is not None:
        _widen(model, target)
    return model


class _Given:
    """Has mlx-lm, which calls a model's `sanitize` with what it read of the files, take some tensors from elsewhere."""

    def __init__(self, tensors: Mapping[str, mx.array]) -> None:
        self._tensors = tensors

    def classes(self, config: dict[str, Any]) -> tuple[Callable[[Any], nn.Module], type]:
        """For mlx-lm, what makes the model that `config` tells of, and the class of its arguments."""
        model_class, arguments = _get_classes(config)
        return lambda values: self._made(model_class(values)), arguments

    def _made(self, model: nn.Module) -> nn.Module:
        if self._tensors:
            sanitize = getattr(model, "sanitize", dict)
            model.sanitize = lambda weights: sanitize(self._exchanged(weights))
        return model

    def _exchanged(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        return weights | {
            name: content.view(weights[name].dtype).reshape(weights[name].shape)
            for name, content in self._tensors.items()
        }


def resolve(dtype: Dtype) -> mx.Dtype | None:
    """What weights become; None: what they are stored in.

    MLX's CPU backend computes halves and quantized products many times slower than float32.
    """
    if dtype == "auto":
        dtype = "stored" if mx.default_device() == mx.gpu else "float32"
    return None if dtype == "stored" else getattr(mx, dtype)


def _widen(model: nn.Module, dtype: mx.Dtype) -> None:
    """Cast, dequantize, and cast what that made: scales are cast first, so that nothing is rounded to halves."""
    cast(model, dtype)
    dequantize(model)
    cast(model, dtype)


def cast(model: nn.Module, dtype: mx.Dtype) -> None:
    """Let all weights of `model` that may be in another float type be in `dtype`."""
    may_cast: Callable[[str], bool] = getattr(model, "cast_predicate", lambda path: True)

    def cast_one(path: str, weight: mx.array) -> mx.array:
        wanted = mx.issubdtype(weight.dtype, mx.floating) and may_cast(path)
        return weight.astype(dtype) if wanted else weight

    model.update(tree_map_with_path(cast_one, model.parameters()))
