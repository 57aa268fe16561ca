"""The header of a safetensors file: which tensors it holds, and how long the file must be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from mlxserve.errors import UserError

LENGTH_BYTES = 8
LONGEST_HEADER = 100_000_000
"""Bytes; the bound that the format itself sets."""


class WeightHeader(msgspec.Struct, frozen=True):
    """https://huggingface.co/docs/safetensors: a 64-bit length, that many bytes of JSON, then the data."""

    raw: bytes
    """Length and JSON, as they stand in the file."""
    tensors: tuple[str, ...]
    file_size: int
    """Bytes of the whole file."""

    @classmethod
    def of(cls, entries: dict[str, Any]) -> WeightHeader:
        """Made from what the JSON says: `{name: {"dtype", "shape", "data_offsets"}}`."""
        return cls._parse(json.dumps(entries).encode())

    @classmethod
    def read(cls, path: Path) -> WeightHeader:
        """Raises UserError if the file is cut short or no safetensors file."""
        try:
            header = cls._parse(_json_of(path))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{path} is damaged or no safetensors file ({error}): delete it and get it again."
            ) from error
        if (size := path.stat().st_size) < header.file_size:
            raise UserError(
                f"{path} is cut short: it has {size:,} of {header.file_size:,} bytes; delete it and get it again."
            )
        return header

    @classmethod
    def read_alone(cls, path: Path) -> WeightHeader:
        """The header of a file that holds nothing else."""
        return cls._parse(_json_of(path))

    @classmethod
    def _parse(cls, text: bytes) -> WeightHeader:
        entries = {name: entry for name, entry in json.loads(text).items() if name != "__metadata__"}
        data_size = max((entry["data_offsets"][1] for entry in entries.values()), default=0)
        raw = len(text).to_bytes(LENGTH_BYTES, "little") + text
        return cls(raw, tuple(entries), len(raw) + data_size)

    def write_stand_in(self, path: Path) -> None:
        """Write a file of the full size whose data are a hole: they read as zeros and take no room on the disk."""
        with path.open("wb") as file:
            file.write(self.raw)
            file.truncate(self.file_size)


def _json_of(path: Path) -> bytes:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        if not 2 <= length <= LONGEST_HEADER:
            raise ValueError(f"its header would have {length:,} bytes")
        text = file.read(length)
    if len(text) < length:
        raise ValueError("its header is cut short")
    return text
