"""A GGUF file written from scratch, and the formats of its tensors in NumPy."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

NUMBERS = {"F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 8, "Q4_K": 12, "Q6_K": 14, "BF16": 30}
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
    raw, said = {"Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_1": _q4_1}[kind](values.reshape(-1, 32))
    return raw.tobytes(), said.astype(np.float32).reshape(values.shape)


def _q8_0(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = (np.abs(blocks).max(1, keepdims=True) / 127).astype("<f2")
    steps = np.clip(np.round(blocks / scale), -127, 127).astype(np.int8)
    return np.hstack([scale.view(np.uint8), steps.view(np.uint8)]), scale.astype(np.float32) * steps


def _q4_0(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scale = (np.abs(blocks).max(1, keepdims=True) / 7).astype("<f2")
    steps = np.clip(np.round(blocks / scale) + 8, 0, 15).astype(np.uint8)
    return np.hstack([scale.view(np.uint8), _pairs(steps)]), scale.astype(np.float32) * (steps.astype(np.float32) - 8)


def _q4_1(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    least = blocks.min(1, keepdims=True).astype("<f2")
    scale = ((blocks.max(1, keepdims=True) - least) / 15).astype("<f2")
    steps = np.clip(np.round((blocks - least) / scale), 0, 15).astype(np.uint8)
    raw = np.hstack([scale.view(np.uint8), least.view(np.uint8), _pairs(steps)])
    return raw, scale.astype(np.float32) * steps + least.astype(np.float32)


def _pairs(steps: np.ndarray) -> np.ndarray:
    return steps[:, :16] | steps[:, 16:] << 4
