"""Telling files of weights apart without reading them whole."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mlxserve.models.folder import ModelSource
from mlxserve.models.weight_header import WeightHeader

_SAMPLES = 256
"""Tensors of a file that are looked into."""
_SAMPLE_BYTES = 64


def print_of(path: Path) -> str:
    """The same for the same weight file anywhere: made of its header and of some bytes amid its tensors.

    Raises UserError if it is cut short or no safetensors file.
    """
    header = WeightHeader.read(path)
    spans = list(header.tensors.values())
    digest = hashlib.sha256(header.raw)
    with path.open("rb", buffering=0) as file:
        for start, length in spans[:: max(1, len(spans) // _SAMPLES)]:
            file.seek(start + length // 2)
            digest.update(file.read(min(_SAMPLE_BYTES, length - length // 2)))
    return digest.hexdigest()


def prints_of(source: ModelSource) -> dict[str, str]:
    """A print of each weight file; empty where it is not here. Raises UserError."""
    folder = source.folder
    return {file: print_of(folder / file) if source.is_here(file) else "" for file in source.weight_files}


def identity_of(source: ModelSource, prints: dict[str, str]) -> str:
    """Another one for every other content, so far as prints and the times of the last changes can tell."""
    digest = hashlib.sha256((source.folder / "config.json").read_bytes())
    for file, mark in prints.items():
        changed = (source.folder / file).stat().st_mtime_ns if mark else 0
        digest.update(f"{file} {mark} {changed}\n".encode())
    return digest.hexdigest()[:24]
