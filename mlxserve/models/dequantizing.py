"""Quantized weights become plain ones, fast where MLX computes on the CPU.

There `mx.dequantize` takes whole words apart, into arrays of 32 bits a weight: five times as long as what is done here,
which is most of the time that a model takes to load.
"""

from __future__ import annotations

from functools import reduce
from operator import or_

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.utils import dequantize_model

_LANES = {4: (mx.uint16, 0x0F0F), 2: (mx.uint32, 0x03030303)}
"""By bits a weight: a type with a byte for each weight in a byte, and what masks the weights in it."""


def dequantize(model: nn.Module) -> None:
    """Replace the quantized layers of `model`, as mlx-lm does; nothing is evaluated. All bits are those of MLX."""
    quantized = {name: module for name, module in model.named_modules() if getattr(module, "mode", "") == "affine"}
    dequantize_model(model)
    if mx.default_device() == mx.gpu:
        return
    for name, module in model.named_modules():
        if (layer := quantized.get(name)) is not None and layer.bits in (*_LANES, 8):
            module.weight = _weights(layer.weight, layer.scales, layer.biases, layer.bits)


def _weights(words: mx.array, scales: mx.array, biases: mx.array, bits: int) -> mx.array:
    """`words` [..., inputs * bits / 32] of uint32, `scales` and `biases` [..., groups] → [..., inputs]."""
    numbers = words.view(mx.uint8)
    if bits < 8:
        wide, mask = _LANES[bits]
        numbers = numbers.astype(wide)
        shifted = [numbers << (8 - bits) * lane for lane in range(8 // bits)]
        numbers = (reduce(or_, shifted) & mask).view(mx.uint8)
    grouped = numbers.reshape(*scales.shape, -1).astype(scales.dtype)
    return (scales[..., None] * grouped + biases[..., None]).reshape(*words.shape[:-1], -1)
