"""Probes: passes of which only the graph is built, never computed, show what a stage can do and what it costs."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from mlxserve.errors import UserError
from mlxserve.pipeline.footprint import Footprint, footprint_of
from mlxserve.pipeline.form import Form
from mlxserve.pipeline.model_trace import RAISED_BY_MODELS
from mlxserve.pipeline.plan import Item, Open
from mlxserve.pipeline.quantized_row_cache import group_size_for
from mlxserve.pipeline.row_cache import RowCache
from mlxserve.pipeline.stage import Stage

_ROWS = 7
"""No model's number of heads, so that a mask which lacks an axis does not fit by chance."""
_BATCH = 0
_TOKENS = 16


class Probe:
    """Tries `stage`, which takes in arrays of the forms `incoming`; the first one tokens."""

    def __init__(self, stage: Stage, incoming: list[Form]) -> None:
        self._stage = stage
        self._incoming = incoming

    def pads(self) -> bool:
        """Whether the model takes rows of different lengths."""
        try:
            self._stage.apply(Open(_BATCH, _ROWS))
            self._pass(_ROWS, 3, [2] + [3] * (_ROWS - 1))
            self._pass(_ROWS, 1)
        except RAISED_BY_MODELS:
            return False
        finally:
            self._stage.reset()
        return True

    def footprint(self) -> Footprint:
        """What sequences cost here."""
        return footprint_of(self._caches_of_one_sequence(), _TOKENS)

    def quantize(self, bits: int) -> None:
        """Let the stage keep `bits` of keys and values wherever the model can compute on them.

        Raises UserError if that is nowhere, unless only other ranks have such caches.
        """
        groups = self._group_sizes()
        if not self._works(bits, groups):
            groups = [size if self._works(bits, _only(groups, place)) else 0 for place, size in enumerate(groups)]
        if self._works(bits, groups) and any(groups):
            return
        self._stage.layout.quantize(bits, [])
        if groups or not self._stage.layout.cuttable_elsewhere:
            raise UserError(
                f"--kv-bits {bits}: no KV cache of this model can be quantized, for its attention does not compute on "
                "quantized keys and values, or its heads are not a multiple of 32 wide. Start without --kv-bits."
            )

    def _group_sizes(self) -> list[int]:
        """Of each of the stage's own row caches; 0 where no group divides the width of its heads."""
        widths = [
            [array.shape[3] for array in cache.state]
            for cache in self._caches_of_one_sequence()
            if isinstance(cache, RowCache)
        ]
        return [group_size_for(each) for each in widths[: self._stage.layout.own_row_caches]]

    def _works(self, bits: int, groups: list[int]) -> bool:
        """Whether the model can be built with these caches quantized; from then on they are."""
        self._stage.layout.quantize(bits, groups)
        return self.pads()

    def _caches_of_one_sequence(self) -> list[Any]:
        try:
            self._stage.apply(Open(_BATCH, 1))
            self._pass(1, _TOKENS)
            return list(self._stage.caches(_BATCH))
        finally:
            self._stage.reset()

    def _pass(self, rows: int, length: int, lengths: list[int] | None = None) -> None:
        incoming = [mx.zeros(form.shape(rows, length), form.dtype) for form in self._incoming]
        self._stage.probe(Item(_BATCH, [[0] * length] * rows, lengths or [], "none"), incoming)


def _only(values: list[int], index: int) -> list[int]:
    return [value if place == index else 0 for place, value in enumerate(values)]
