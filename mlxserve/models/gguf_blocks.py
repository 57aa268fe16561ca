"""GGUF's number formats as MLX's: plain floats as they are, 32-blocks as MLX's affine quantization, exactly.

Blocks: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h. Where a block says w = d * q + m, MLX says the
same with one scale and one bias for each group of 32.
"""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from mlxserve.models.gguf import GgufTensor

Bytes = npt.NDArray[np.uint8]
Parts = dict[str, npt.NDArray[np.generic]]
"""What MLX calls weight, scales and biases; rows first."""

GROUP = 32
BLOCK_BYTES = {"Q4_0": 18, "Q4_1": 20, "Q8_0": 34}
BITS = {"Q4_0": 4, "Q4_1": 4, "Q8_0": 8}
FLOAT_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
SUPPORTED = (*FLOAT_BYTES, *BLOCK_BYTES)


def bytes_of(tensor: GgufTensor) -> int:
    """Length in the file of a tensor of a supported type."""
    if tensor.type in FLOAT_BYTES:
        return tensor.size * FLOAT_BYTES[tensor.type]
    return tensor.size // GROUP * BLOCK_BYTES[tensor.type]


def decode(tensor: GgufTensor, data: Bytes) -> Parts:
    """The tensor's parts from its bytes; BF16 stays as 16-bit patterns, which NumPy has no name for."""
    if tensor.type in FLOAT_BYTES:
        plain = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}[tensor.type]
        return {"weight": data.view(plain).reshape(tensor.shape)}
    blocks = data.reshape(-1, BLOCK_BYTES[tensor.type])
    packed, scales, biases = {"Q4_0": _q4_0, "Q4_1": _q4_1, "Q8_0": _q8_0}[tensor.type](blocks)
    rows = tensor.shape[:-1]
    return {
        "weight": packed.view(np.uint32).reshape(*rows, -1),
        "scales": scales.reshape(*rows, -1),
        "biases": biases.reshape(*rows, -1),
    }


def to_mlx(tensor: GgufTensor, part: npt.NDArray[np.generic]) -> mx.array:
    """A part as an MLX array."""
    array = mx.array(np.ascontiguousarray(part))
    return array.view(mx.bfloat16) if tensor.type == "BF16" else array


Halves = npt.NDArray[np.float16]


def _q4_0(blocks: Bytes) -> tuple[Bytes, Halves, Halves]:
    scales = _halves(blocks, 0)
    return _nibbles(blocks[:, 2:]), scales, scales * np.float16(-8)


def _q4_1(blocks: Bytes) -> tuple[Bytes, Halves, Halves]:
    return _nibbles(blocks[:, 4:]), _halves(blocks, 0), _halves(blocks, 2)


def _q8_0(blocks: Bytes) -> tuple[Bytes, Halves, Halves]:
    scales = _halves(blocks, 0)
    return np.ascontiguousarray(blocks[:, 2:] ^ 0x80), scales, scales * np.float16(-128)


def _halves(blocks: Bytes, at: int) -> Halves:
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16)


def _nibbles(packed: Bytes) -> Bytes:
    """GGUF has weight i beside weight i + 16 in a byte, MLX has neighbours, the first one low."""
    weights = np.concatenate([packed & 15, packed >> 4], axis=1)
    pairs: Bytes = weights[:, 0::2] | weights[:, 1::2] << 4
    return pairs
