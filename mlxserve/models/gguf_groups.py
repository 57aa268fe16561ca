"""Groups of weights that share a scale and a bias, as MLX's affine quantization has them: w = scale * q + bias."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Halves = npt.NDArray[np.float16]
GROUP = 32
"""Weights in each."""


class Groups(NamedTuple):
    """What the blocks of one tensor hold, in its order."""

    weights: Bytes
    """[groups, 32]: a small number each, not packed."""
    scales: Halves
    """[groups]."""
    biases: Halves
    """[groups]."""


def packed(weights: Bytes, bits: int) -> Bytes:
    """Numbers below 2 ** `bits` one after another, lowest bits first, as MLX stores them: eight in `bits` bytes."""
    eights = weights.reshape(-1, 8)
    stored = np.zeros((len(eights), bits), np.uint8)
    for place in range(8):
        byte, shift = divmod(place * bits, 8)
        stored[:, byte] |= eights[:, place] << shift
        if shift + bits > 8:
            stored[:, byte + 1] |= eights[:, place] >> (8 - shift)
    return stored.ravel()
