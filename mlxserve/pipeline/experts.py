"""How much of a mixture of experts a token reads: seen in the trace, where each is told which experts are asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_lm.models.switch_layers import QuantizedSwitchLinear, SwitchLinear

Asked = dict[int, int]
"""By the id of a module that holds a matrix for each expert, how many of them a token asks."""


@contextmanager
def watching_experts() -> Iterator[Asked]:
    """Note down what modules are asked within."""
    asked: Asked = {}
    originals = {kind: kind.__call__ for kind in (SwitchLinear, QuantizedSwitchLinear)}

    def watched(original: Any) -> Any:
        def call(module: Any, x: mx.array, indices: mx.array, *args: Any, **kwargs: Any) -> Any:
            asked[id(module)] = indices.size
            return original(module, x, indices, *args, **kwargs)

        return call

    try:
        for kind, original in originals.items():
            kind.__call__ = watched(original)
        yield asked
    finally:
        for kind, original in originals.items():
            kind.__call__ = original


def unread_bytes(layer: nn.Module, asked: Asked) -> int:
    """Bytes of the weights of `layer` that a token does not read."""
    return sum(
        _bytes(module) * max(0, module.num_experts - asked[id(module)]) // module.num_experts
        for module in layer.modules()
        if id(module) in asked
    )


def _bytes(module: nn.Module) -> int:
    return sum(array.nbytes for _, array in tree_flatten(module.parameters()))
