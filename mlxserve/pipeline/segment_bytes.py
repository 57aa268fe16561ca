"""A segment as bytes and back. A header describes its arrays, which follow one after another."""

from __future__ import annotations

import math
from typing import Any

import mlx.core as mx
import msgspec
import numpy as np

from mlxserve.pipeline.segments import Segment

FORMAT = "1"
"""To be changed with anything that makes what older versions stored unfit."""


class _Header(msgspec.Struct, frozen=True):
    key: str
    tokens: int
    ranges: Any
    snapshots: Any
    """Trees as in the segment, with places in `arrays` for arrays."""
    arrays: list[tuple[str, list[int]]]
    """Type and shape of each."""


def packed(key: str, segment: Segment) -> bytes:
    """`segment` as bytes; waits until it is computed."""
    arrays: list[mx.array] = []
    ranges, snapshots = _without(segment.ranges, arrays), _without(segment.snapshots, arrays)
    described = [(str(array.dtype).removeprefix("mlx.core."), list(array.shape)) for array in arrays]
    header = msgspec.msgpack.encode(_Header(key, segment.tokens, ranges, snapshots, described))
    return b"".join([len(header).to_bytes(8, "little"), header, *map(_bytes_of, arrays)])


def unpacked(content: bytes) -> tuple[str, Segment]:
    """The key and the segment that `content` is made from. Raises ValueError if it is made from none."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = msgspec.msgpack.decode(content[8:start], type=_Header)
    arrays = []
    for name, shape in header.arrays:
        dtype: mx.Dtype = getattr(mx, name)
        stop = start + math.prod(shape) * dtype.size
        flat = np.frombuffer(content[start:stop], np.uint8)
        arrays.append(mx.array(flat).view(dtype).reshape(shape) if flat.size else mx.zeros(shape, dtype))
        start = stop
    if start != len(content):
        raise ValueError("it is longer or shorter than it says")
    return header.key, Segment(header.tokens, _with(header.ranges, arrays), _with(header.snapshots, arrays))


def _bytes_of(array: mx.array) -> bytes:
    return bytes(memoryview(array.reshape(-1).view(mx.uint8))) if array.size else b""  # type: ignore[arg-type]


def _without(value: Any, arrays: list[mx.array]) -> Any:
    """`value` with each array moved to `arrays` and told by its place there."""
    if isinstance(value, mx.array):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, list | tuple):
        return [_without(item, arrays) for item in value]
    if isinstance(value, dict):
        return {"dict": {name: _without(item, arrays) for name, item in value.items()}}
    return value


def _with(value: Any, arrays: list[mx.array]) -> Any:
    """Undoes `_without`."""
    if isinstance(value, list):
        return [_with(item, arrays) for item in value]
    if isinstance(value, dict):
        if "array" in value:
            return arrays[value["array"]]
        return {name: _with(item, arrays) for name, item in value["dict"].items()}
    return value
