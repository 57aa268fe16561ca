"""A GGUF file written from scratch, and the formats of its tensors in NumPy."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11, "Q4_K": 12,
    "Q5_K": 13, "Q6_K": 14, "BF16": 30,
}  # fmt: skip
ALIGNMENT = 32
Tensor = tuple[str, str, tuple[int, ...], bytes]


def write_gguf(path: Path, metadata: dict[str, Any], tensors: list[Tensor]) -> Path:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    head += b"".join(_string(key) + _typed(value) for key, value in metadata.items())
    data = b""
    for name, kind, shape, raw in tensors:
        sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        head += _string(name) + sizes + struct.pack("<IQ", NUMBERS[kind], len(data))
        data += raw + bytes(-len(raw) % ALIGNMENT)
    path.write_bytes(head + bytes(-len(head) % ALIGNMENT) + data)
    return path


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()


def _typed(value: Any) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", 8) + _string(value)
        case [float(), *_]:
            return struct.pack(f"<IIQ{len(value)}f", 9, 6, len(value), *value)
        case [str(), *_]:
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(_string, value))
        case _:
            return struct.pack(f"<IIQ{len(value)}i", 9, 5, len(value), *value)


def quantize(values: np.ndarray, kind: str) -> tuple[bytes, np.ndarray]:
    """The bytes, and what they say in float32."""
    if kind == "F32":
        return values.astype("<f4").tobytes(), values
    if kind == "F16":
        return values.astype("<f2").tobytes(), values.astype(np.float16).astype(np.float32)
    if kind == "BF16":
        patterns = (values.astype("<f4").view(np.uint32) >> 16).astype("<u2")
        return patterns.tobytes(), (patterns.astype(np.uint32) << 16).view(np.float32)
    raw, said = {"Q8_0": _q8_0, "Q4_0": _even, "Q5_0": _even, "Q4_1": _from_least, "Q5_1": _from_least}[kind](
        values.reshape(-1, 32), int(kind[1])
    )
    return raw.tobytes(), said.astype(np.float32).reshape(values.shape)


def _q8_0(blocks: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype("<f2")
    steps = np.clip(np.round(blocks / scale), -127, 127).astype(np.int8)
    return np.hstack([scale.view(np.uint8), steps.view(np.uint8)]), scale.astype(np.float32) * steps


def _even(blocks: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Q4_0 and Q5_0: a scale, zero in the middle."""
    middle = 2 ** (bits - 1)
    scale = (np.abs(blocks).max(1, keepdims=True) / (middle - 1)).astype("<f2")
    steps = np.clip(np.round(blocks / scale) + middle, 0, 2 * middle - 1).astype(np.uint8)
    said = scale.astype(np.float32) * (steps.astype(np.float32) - middle)
    return np.hstack([scale.view(np.uint8), _stored(steps, bits)]), said


def _from_least(blocks: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Q4_1 and Q5_1: a scale and the least value."""
    least, most = blocks.min(1, keepdims=True).astype("<f2"), 2**bits - 1
    scale = ((blocks.max(1, keepdims=True) - least) / most).astype("<f2")
    steps = np.clip(np.round((blocks - least) / scale), 0, most).astype(np.uint8)
    raw = np.hstack([scale.view(np.uint8), least.view(np.uint8), _stored(steps, bits)])
    return raw, scale.astype(np.float32) * steps + least.astype(np.float32)


def _stored(steps: np.ndarray, bits: int) -> np.ndarray:
    """Fifth bits first, then nibbles: weight i beside weight i + 16."""
    fifth = np.packbits(steps >> 4, axis=1, bitorder="little")
    nibbles = steps & 15
    pairs = nibbles[:, :16] | nibbles[:, 16:] << 4
    return np.hstack([fifth, pairs]) if bits == 5 else pairs
