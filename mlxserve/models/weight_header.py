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
    tensors: dict[str, tuple[int, int]]
    """By name, where each begins in the file, and its bytes."""
    file_size: int
    """Bytes of the whole file."""

    @classmethod
    def of(cls, entries: dict[str, Any]) -> WeightHeader:
        """Made from what the JSON says: `{name: {"dtype", "shape", "data_offsets"}}`."""
        return cls.parse(json.dumps(entries).encode())

    @classmethod
    def read(cls, path: Path) -> WeightHeader:
        """Raises UserError if the file is cut short or no safetensors file."""
        try:
            header = cls.parse(_json_of(path))
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
        return cls.parse(_json_of(path))

    @classmethod
    def parse(cls, text: bytes) -> WeightHeader:
        """The header whose JSON is `text`. Raises ValueError, KeyError, TypeError or AttributeError if it is none."""
        entries = {name: entry for name, entry in json.loads(text).items() if name != "__metadata__"}
        offsets = {name: entry["data_offsets"] for name, entry in entries.items()}
        raw = len(text).to_bytes(LENGTH_BYTES, "little") + text
        tensors = {name: (len(raw) + start, stop - start) for name, (start, stop) in offsets.items()}
        return cls(raw, tensors, len(raw) + max((stop for _, stop in offsets.values()), default=0))

    def write_stand_in(self, path: Path) -> None:
        """Write a file of the full size whose data are a hole: they read as zeros and take no room on the disk."""
        with path.open("wb") as file:
            file.write(self.raw)
            file.truncate(self.file_size)


def length_told(beginning: bytes) -> int:
    """How long the JSON is, as the first `LENGTH_BYTES` bytes of a file say. Raises ValueError where it cannot be."""
    length = int.from_bytes(beginning, "little")
    if not 2 <= length <= LONGEST_HEADER:
        raise ValueError(f"its header would have {length:,} bytes")
    return length


def _json_of(path: Path) -> bytes:
    with path.open("rb") as file:
        length = length_told(file.read(LENGTH_BYTES))
        text = file.read(length)
    if len(text) < length:
        raise ValueError("its header is cut short")
    return text
