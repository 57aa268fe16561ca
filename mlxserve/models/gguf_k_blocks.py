"""GGUF's K formats: blocks of 256 weights, whose scales are quantized too.

Blocks: https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c, `dequantize_row_q4_K` and what follows it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mlxserve.models.gguf_groups import GROUP, Bytes, Groups, Halves

Floats = npt.NDArray[np.float32]
LOW_HIGH, NIBBLE = np.array([[0], [4]], np.uint8), np.uint8(15)


def q4_k(blocks: Bytes) -> Groups:
    """[blocks, 144]: two scales of the scales, eight scales and eight least values of 6 bits, nibbles.

    The products of both scales are rounded to halves, which moves a weight by about a hundredth of a step.
    """
    return _groups(blocks, _nibbles(blocks[:, 16:]))


def q5_k(blocks: Bytes) -> Groups:
    """[blocks, 176]: as `q4_k`, with a fifth bit for each weight before the nibbles: bit g of byte i for group g."""
    fifth = np.unpackbits(blocks[:, 16:48, None], axis=2, bitorder="little").swapaxes(1, 2)
    return _groups(blocks, _nibbles(blocks[:, 48:]) | fifth << np.uint8(4))


def q6_k(blocks: Bytes) -> Halves:
    """[blocks, 210]: nibbles, pairs of high bits, sixteen scales, the scale of these. Gives [blocks, 256] weights.

    MLX has no groups of 16 with a scale of their own: these weights become floats, rounded to halves.
    """
    low, high = blocks[:, :128].reshape(-1, 2, 1, 64), blocks[:, 128:192].reshape(-1, 2, 1, 32)
    nibbles = low >> LOW_HIGH & NIBBLE
    pairs = high >> np.array([[0], [2], [4], [6]], np.uint8) & 3
    steps = (nibbles.reshape(-1, 16, 16) | pairs.reshape(-1, 16, 16) << 4).astype(np.int8) - np.int8(32)
    scales = _half(blocks, 208) * blocks[:, 192:208].view(np.int8)
    return (scales[..., None] * steps).astype(np.float16).reshape(-1, 256)


def _groups(blocks: Bytes, weights: Bytes) -> Groups:
    scales, least = _six_bits(blocks[:, 4:16])
    return Groups(
        weights.reshape(-1, GROUP),
        (_half(blocks, 0) * scales).astype(np.float16).ravel(),
        (_half(blocks, 2) * -least).astype(np.float16).ravel(),
    )


def _six_bits(stored: Bytes) -> tuple[Floats, Floats]:
    """[blocks, 12] as two times eight numbers: `get_scale_min_k4`."""
    first, second, rest = stored[:, :4], stored[:, 4:8], stored[:, 8:]
    scales = np.hstack([first & 63, rest & 15 | first >> 6 << 4])
    least = np.hstack([second & 63, rest >> 4 | second >> 6 << 4])
    return scales.astype(np.float32), least.astype(np.float32)


def _nibbles(stored: Bytes) -> Bytes:
    """[blocks, 128] as [blocks, 8, 32]: of each 32 bytes the low halves are a group, then the high ones."""
    return (stored.reshape(-1, 4, 1, 32) >> LOW_HIGH & NIBBLE).reshape(-1, 8, 32)


def _half(blocks: Bytes, at: int) -> Floats:
    """[blocks, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view(np.float16).astype(np.float32)
