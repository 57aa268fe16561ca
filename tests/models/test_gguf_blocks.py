"""Blocks of random bytes, read weight by weight as `dequantize_row_*` of ggml-quants.c reads them, and by us."""

from __future__ import annotations

import struct
from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest

from mlxserve.models.gguf import GgufTensor
from mlxserve.models.gguf_blocks import BITS, BLOCKS, bytes_in_mlx, decode, to_mlx

ROWS, BLOCKS_IN_ROW = 3, 2


def _half(block: bytes, at: int) -> float:
    return float(struct.unpack_from("<e", block, at)[0])


def _q5_0(block: bytes) -> list[float]:
    return [_half(block, 0) * (step - 16) for step in _five_bits(block[2:])]


def _q5_1(block: bytes) -> list[float]:
    return [_half(block, 0) * step + _half(block, 2) for step in _five_bits(block[4:])]


def _five_bits(stored: bytes) -> list[int]:
    (high,) = struct.unpack_from("<I", stored)
    nibbles = [byte & 15 for byte in stored[4:]] + [byte >> 4 for byte in stored[4:]]
    return [nibble | (high >> i & 1) << 4 for i, nibble in enumerate(nibbles)]


def _q4_k(block: bytes) -> list[float]:
    return _k(block, [_nibble(block[16:], i) for i in range(256)])


def _q5_k(block: bytes) -> list[float]:
    return _k(block, [_nibble(block[48:], i) | (block[16 + i % 32] >> i // 32 & 1) << 4 for i in range(256)])


def _nibble(stored: bytes, i: int) -> int:
    """Of each 32 bytes the low nibbles first, then the high ones."""
    return stored[i // 64 * 32 + i % 32] >> (4 if i % 64 >= 32 else 0) & 15


def _k(block: bytes, steps: list[int]) -> list[float]:
    pairs = [_scale_and_least(block[4:16], group) for group in range(8)]
    return [
        _half(block, 0) * pairs[i // 32][0] * step - _half(block, 2) * pairs[i // 32][1] for i, step in enumerate(steps)
    ]


def _scale_and_least(q: bytes, j: int) -> tuple[int, int]:
    """`get_scale_min_k4`."""
    if j < 4:
        return q[j] & 63, q[j + 4] & 63
    return q[j + 4] & 15 | q[j - 4] >> 6 << 4, q[j + 4] >> 4 | q[j] >> 6 << 4


def _q6_k(block: bytes) -> list[float]:
    return [_half(block, 208) * _signed(block[192 + i // 16]) * (_six_bits(block, i) - 32) for i in range(256)]


def _six_bits(block: bytes, i: int) -> int:
    half, within = divmod(i, 128)
    quarter, at = divmod(within, 32)
    low = block[half * 64 + quarter % 2 * 32 + at] >> quarter // 2 * 4 & 15
    return low | (block[128 + half * 32 + at] >> 2 * quarter & 3) << 4


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


READERS: dict[str, Callable[[bytes], list[float]]] = {
    "Q5_0": _q5_0,
    "Q5_1": _q5_1,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
}
HALVES_AT = {"Q5_0": (0,), "Q5_1": (0, 2), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}


def _random(kind: str) -> tuple[GgufTensor, np.ndarray, np.ndarray]:
    """A tensor, its bytes, and what they say."""
    layout = BLOCKS[kind]
    random = np.random.default_rng(len(kind))
    blocks = random.integers(0, 256, (ROWS * BLOCKS_IN_ROW, layout.bytes), np.uint8)
    for at in HALVES_AT[kind]:
        blocks[:, at : at + 2] = random.uniform(0.01, 0.02, (len(blocks), 1)).astype("<f2").view(np.uint8)
    tensor = GgufTensor("blk.0.attn_q.weight", kind, (ROWS, BLOCKS_IN_ROW * layout.weights), 0)
    said = np.array([READERS[kind](block.tobytes()) for block in blocks])
    return tensor, blocks.ravel(), said.reshape(tensor.shape)


def _read(tensor: GgufTensor, data: np.ndarray) -> np.ndarray:
    """What MLX says the weights are."""
    parts = {name: to_mlx(tensor, part) for name, part in decode(tensor, data).items()}
    assert sum(part.nbytes for part in parts.values()) == bytes_in_mlx(tensor)
    if tensor.type not in BITS:
        return np.array(parts["weight"].astype(mx.float32))
    scales, biases = parts["scales"].astype(mx.float32), parts["biases"].astype(mx.float32)
    return np.array(mx.dequantize(parts["weight"], scales, biases, group_size=32, bits=BITS[tensor.type]))


@pytest.mark.parametrize("kind", ["Q5_0", "Q5_1"])
def test_blocks_of_32_are_what_they_say(kind: str) -> None:
    tensor, data, said = _random(kind)
    assert np.array_equal(_read(tensor, data), said.astype(np.float32))


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K", "Q6_K"])
def test_k_blocks_are_what_they_say_but_for_their_scales_being_halves(kind: str) -> None:
    tensor, data, said = _random(kind)
    read, half = _read(tensor, data), 2.0**-11
    groups = said.reshape(ROWS, -1, 32)
    largest = np.abs(groups - groups.min(2, keepdims=True)).max(2, keepdims=True) + np.abs(groups).max(2, keepdims=True)
    assert (np.abs(read.reshape(groups.shape) - groups) <= 2 * half * largest).all()
    assert len(np.unique(read)) > read.size / 20
