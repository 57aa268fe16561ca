"""The head of a GGUF file: its metadata, and where each tensor lies. Nothing else of the file is read.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import hashlib
import math
import mmap
import struct
from pathlib import Path
from typing import Any

import msgspec

from mlxserve.errors import UserError

MAGIC = b"GGUF"
STRING, ARRAY = 8, 9
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
# fmt: off
TYPES = [
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
    "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32",
    "I64", "F64", "IQ1_M", "BF16", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8",
    "IQ4_NL_8_8", "MXFP4",
]
# fmt: on
"""By ggml's numbers."""


class GgufTensor(msgspec.Struct, frozen=True):
    """One row of the tensor table."""

    name: str
    type: str
    shape: tuple[int, ...]
    """Outermost first, as in NumPy."""
    start: int
    """Bytes from the beginning of the file."""

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class GgufFile(msgspec.Struct, frozen=True):
    """What the head says."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]
    digest: str
    """Of all that stands before the tensors' data."""

    @classmethod
    def read(cls, path: Path) -> GgufFile:
        """Raises UserError if the file is cut short or no GGUF file."""
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise UserError(f"{path} is no GGUF file, or was cut off: get it again.")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                try:
                    return _Reader(data).file(path)
                except (struct.error, UnicodeDecodeError, ValueError, KeyError) as error:
                    raise UserError(f"{path} is cut short or damaged ({error}): get it again.") from error

    def setting(self, key: str, default: Any = None) -> Any:
        """A value of the file's architecture."""
        return self.metadata.get(f"{self.metadata['general.architecture']}.{key}", default)

    def number(self, key: str, default: float | None = None) -> Any:
        """Raises UserError if there is none, or several."""
        value = self.setting(key, default)
        if not isinstance(value, int | float):
            raise UserError(f"{self.path} does not say its {key} (or says it layer by layer): it cannot be converted.")
        return value


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._at = len(MAGIC)

    def file(self, path: Path) -> GgufFile:
        version = self._number("I")
        if version not in (2, 3):
            raise UserError(f"{path} is GGUF version {version}: only versions 2 and 3 (little-endian) can be read.")
        tensor_count, metadata_count = self._number("Q"), self._number("Q")
        metadata = {self._string(): self._value(self._number("I")) for _ in range(metadata_count)}
        table = [self._tensor() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", 32)
        start = -(-self._at // alignment) * alignment
        tensors = {t.name: msgspec.structs.replace(t, start=start + t.start) for t in table}
        return GgufFile(path, metadata, tensors, hashlib.sha256(self._data[: self._at]).hexdigest())

    def _tensor(self) -> GgufTensor:
        name = self._string()
        shape = tuple(self._number("Q") for _ in range(self._number("I")))[::-1]
        kind = self._number("I")
        return GgufTensor(name, TYPES[kind] if kind < len(TYPES) else f"type {kind}", shape, self._number("Q"))

    def _value(self, kind: int) -> Any:
        if kind == STRING:
            return self._string()
        if kind == ARRAY:
            return self._array()
        return self._number(SCALARS[kind])

    def _array(self) -> list[Any]:
        kind, count = self._number("I"), self._number("Q")
        if kind == STRING:
            return self._strings(count)
        if kind == ARRAY:
            return [self._array() for _ in range(count)]
        return list(self._unpack(f"{count}{SCALARS[kind]}"))

    def _string(self) -> str:
        return self._strings(1)[0]

    def _strings(self, count: int) -> list[str]:
        """As quickly as Python can: a vocabulary has hundreds of thousands, and every start reads them."""
        data, at, length_at = self._data, self._at, struct.Struct("<Q").unpack_from
        found = []
        for _ in range(count):
            start = at + 8
            at = start + length_at(data, at)[0]
            if at > len(data):
                raise ValueError("a string runs past its end")
            found.append(str(data[start:at], "utf-8"))
        self._at = at
        return found

    def _number(self, code: str) -> Any:
        return self._unpack(code)[0]

    def _unpack(self, code: str) -> tuple[Any, ...]:
        layout = struct.Struct("<" + code)
        values = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        return values
