"""Headers of weight files that stay on the hub: read by a range request once, then kept."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from huggingface_hub import HfApi

from mlxserve.models.cache import cache_folder
from mlxserve.models.weight_header import WeightHeader


def remote_header(repository: str, commit: str, file: str) -> WeightHeader:
    """Raises what huggingface_hub raises where the hub cannot be asked."""
    kept = cache_folder() / "headers" / repository.replace("/", "--") / commit / file
    try:
        return WeightHeader.read_alone(kept)
    except (OSError, ValueError, KeyError):
        header = _ask(repository, commit, file)
        _keep(kept, header.raw)
        return header


def _ask(repository: str, commit: str, file: str) -> WeightHeader:
    metadata = HfApi().parse_safetensors_file_metadata(repository, file, revision=commit)
    return WeightHeader.of(
        {
            name: {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": tensor.data_offsets}
            for name, tensor in metadata.tensors.items()
        }
    )


def _keep(path: Path, raw: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(raw)
    os.replace(file.name, path)
