"""A LoRA or DoRA adapter as `mlx_lm.lora` writes it: a folder with adapter_config.json and adapters.safetensors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import mlx.nn as nn
import msgspec
from mlx.utils import tree_flatten

from mlxserve.config import Dtype
from mlxserve.errors import UserError
from mlxserve.models.loading import cast, resolve
from mlxserve.models.weight_header import WeightHeader

CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"
_KINDS = ("lora", "dora")
_FACTORS = ("lora_a", "lora_b")


class Adapter(msgspec.Struct, frozen=True):
    """What a folder holds; no weight of it is read before the rank that needs it evaluates it."""

    folder: Path
    tensors: frozenset[str]
    digest: str
    """Of both files."""

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        """Raises UserError where the folder is not that of an adapter, or of a kind that cannot be added to a model."""
        for name in (CONFIG, WEIGHTS):
            if not (folder / name).is_file():
                raise UserError(f"--adapter {folder}: there is no {name} in it, {_instead(folder)}")
        config = (folder / CONFIG).read_bytes()
        _check_kind(folder, config)
        header = WeightHeader.read(folder / WEIGHTS)
        with (folder / WEIGHTS).open("rb") as file:
            weights = hashlib.file_digest(file, "sha256").digest()
        return cls(folder, frozenset(header.tensors), hashlib.sha256(config + weights).hexdigest()[:12])

    def attach(self, model: nn.Module, dtype: Dtype) -> None:
        """Add it to `model`, lazily, and compute it in `dtype`, too. Raises UserError where it is another model's."""
        from mlx_lm.tuner.utils import load_adapters  # brings all of mlx-lm's training along

        try:
            load_adapters(model, str(self.folder))
        except Exception as error:  # whatever a config that nobody has checked makes mlx-lm raise
            raise UserError(f"the adapter {self.folder} does not fit the model: {_reason(error)}") from error
        added = {name for name, _ in tree_flatten(model.parameters()) if name.rpartition(".")[2] in _FACTORS}
        if lacking := added - self.tensors:
            raise UserError(
                f"the adapter {self.folder} does not fit the model: {WEIGHTS} lacks {len(lacking)} of the "
                f"{len(added)} tensors that {CONFIG} asks for, such as {min(lacking)}"
            )
        model.eval()  # else it drops some of its inputs out, as in training
        if (target := resolve(dtype)) is not None:
            cast(model, target)


def _check_kind(folder: Path, text: bytes) -> None:
    try:
        config: Any = json.loads(text)
        if "peft_type" in config:
            raise UserError(f"--adapter {folder} was made by PEFT: only those that `mlx_lm.lora` makes can be added.")
        kind = config.get("fine_tune_type", "lora")
    except (ValueError, TypeError, AttributeError):
        raise UserError(f"{folder / CONFIG} is not a JSON object: get the adapter again.") from None
    if kind == "full":
        raise UserError(
            f"--adapter {folder} holds all weights of a model (fine_tune_type full), not an adapter: "
            "make a model of it with `mlx_lm.fuse`, and name that with --model."
        )
    if kind not in _KINDS:
        raise UserError(f"--adapter {folder} is of the fine_tune_type {kind!r}: only {' and '.join(_KINDS)} are known.")


def _instead(folder: Path) -> str:
    if not folder.is_dir():
        return "for it is no folder on this machine: name the one that `mlx_lm.lora --adapter-path` has written."
    if any(folder.glob("adapter_model.*")):
        return "but the files of PEFT: only adapters that `mlx_lm.lora` makes can be added."
    return "name the folder that `mlx_lm.lora --adapter-path` has written."


def _reason(error: Exception) -> str:
    """The first of what mlx-lm lists, in a sentence."""
    if isinstance(error, KeyError | AttributeError):
        return f"{CONFIG} is not complete ({' '.join(str(error).split())})"
    listed = [" ".join(line.split()) for line in str(error).splitlines()]
    first = listed[1] if len(listed) > 1 else "".join(listed)
    return first + (f" (and {len(listed) - 2} more)" if len(listed) > 2 else "")
