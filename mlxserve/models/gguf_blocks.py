"""GGUF's number formats as MLX's: floats as they are, blocks as MLX's affine quantization wherever it can hold them.

Blocks: https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h. Where a block of 32 says w = d * q + m, MLX
says exactly the same with one scale and one bias; of K formats see `gguf_k_blocks`.
"""

from __future__ import annotations

from collections.abc import Callable

import mlx.core as mx
import msgspec
import numpy as np
import numpy.typing as npt

from mlxserve.models.gguf import GgufTensor
from mlxserve.models.gguf_groups import GROUP, Bytes, Groups, Halves, packed
from mlxserve.models.gguf_k_blocks import q4_k, q5_k, q6_k

Parts = dict[str, npt.NDArray[np.generic]]
"""What MLX calls weight, scales and biases; rows first."""


def bytes_of(tensor: GgufTensor) -> int:
    """Length in the file of a tensor of a supported type."""
    if tensor.type in FLOAT_BYTES:
        return tensor.size * FLOAT_BYTES[tensor.type]
    layout = BLOCKS[tensor.type]
    return tensor.size // layout.weights * layout.bytes


def bytes_in_mlx(tensor: GgufTensor) -> int:
    """Length of all its parts."""
    if tensor.type in FLOAT_BYTES:
        return bytes_of(tensor)
    bits = BITS[tensor.type] + 32 / GROUP if tensor.type in BITS else 16
    return int(tensor.size * bits / 8)


def decode(tensor: GgufTensor, data: Bytes) -> Parts:
    """The tensor's parts from its bytes; BF16 stays as 16-bit patterns, which NumPy has no name for."""
    if tensor.type in FLOAT_BYTES:
        plain = {"F32": np.float32, "F16": np.float16, "BF16": np.uint16}[tensor.type]
        return {"weight": data.view(plain).reshape(tensor.shape)}
    layout = BLOCKS[tensor.type]
    content = layout.read(data.reshape(-1, layout.bytes))
    if not isinstance(content, Groups):
        return {"weight": content.reshape(tensor.shape)}
    rows = tensor.shape[:-1]
    return {
        "weight": packed(content.weights, BITS[tensor.type]).view(np.uint32).reshape(*rows, -1),
        "scales": content.scales.reshape(*rows, -1),
        "biases": content.biases.reshape(*rows, -1),
    }


def to_mlx(tensor: GgufTensor, part: npt.NDArray[np.generic]) -> mx.array:
    """A part as an MLX array."""
    array = mx.array(np.ascontiguousarray(part))
    return array.view(mx.bfloat16) if tensor.type == "BF16" else array


def _q4_0(blocks: Bytes) -> Groups:
    scales = _halves(blocks, 0)
    return Groups(_nibbles(blocks[:, 2:]), scales, scales * np.float16(-8))


def _q4_1(blocks: Bytes) -> Groups:
    return Groups(_nibbles(blocks[:, 4:]), _halves(blocks, 0), _halves(blocks, 2))


def _q5_0(blocks: Bytes) -> Groups:
    scales = _halves(blocks, 0)
    return Groups(_five_bits(blocks[:, 2:]), scales, scales * np.float16(-16))


def _q5_1(blocks: Bytes) -> Groups:
    return Groups(_five_bits(blocks[:, 4:]), _halves(blocks, 0), _halves(blocks, 2))


def _q8_0(blocks: Bytes) -> Groups:
    scales = _halves(blocks, 0)
    return Groups(blocks[:, 2:] ^ np.uint8(0x80), scales, scales * np.float16(-128))


def _halves(blocks: Bytes, at: int) -> Halves:
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).ravel()


def _nibbles(stored: Bytes) -> Bytes:
    """GGUF has weight i beside weight i + 16 in a byte."""
    return np.hstack([stored & 15, stored >> 4])


def _five_bits(stored: Bytes) -> Bytes:
    """The highest bits of all weights come first."""
    highest = np.unpackbits(stored[:, :4], axis=1, bitorder="little")
    return _nibbles(stored[:, 4:]) | highest << np.uint8(4)


class Layout(msgspec.Struct, frozen=True):
    """How the blocks of a type lie in a file, and what reads them."""

    weights: int
    """In a block."""
    bytes: int
    """Of a block."""
    read: Callable[[Bytes], Groups | Halves]
    """Takes [blocks, bytes]; gives halves where MLX has no such quantization."""


FLOAT_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
BLOCKS = {
    "Q4_0": Layout(32, 18, _q4_0),
    "Q4_1": Layout(32, 20, _q4_1),
    "Q5_0": Layout(32, 22, _q5_0),
    "Q5_1": Layout(32, 24, _q5_1),
    "Q8_0": Layout(32, 34, _q8_0),
    "Q4_K": Layout(256, 144, q4_k),
    "Q5_K": Layout(256, 176, q5_k),
    "Q6_K": Layout(256, 210, q6_k),
}
BITS = {"Q4_0": 4, "Q4_1": 4, "Q5_0": 5, "Q5_1": 5, "Q8_0": 8, "Q4_K": 4, "Q5_K": 5}
"""Of those that stay quantized."""
SUPPORTED = (*FLOAT_BYTES, *BLOCKS)
