"""Tiny random models served on one rank, for tests."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache

from mlxserve.config import Settings
from mlxserve.pipeline.loading import LoadedModel, load_model
from mlxserve.pipeline.pipeline import OneRank, Work
from mlxserve.pipeline.plan import CacheOperation

from .tiny_models import CONFIGS, instantiate

VOCABULARY = 64


def build(model_type: str, **changes: Any) -> nn.Module:
    """With the same random weights each time, and few tokens."""
    return instantiate(CONFIGS[model_type] | {"vocab_size": VOCABULARY} | changes)


class TinyModel:
    """A model type on one rank, driven as the scheduler does."""

    def __init__(self, model_type: str, kv_bits: int = 0, **changes: Any) -> None:
        settings = Settings(kv_bits=kv_bits)
        self.loaded: LoadedModel = load_model(build(model_type, **changes), settings)
        self.stage = self.loaded.stage
        self.pipeline = OneRank(self.stage, self.loaded.batchable)
        self._reference = build(model_type, **changes)
        self._known: dict[tuple[int, ...], mx.array] = {}

    def do(self, *operations: CacheOperation) -> None:
        """Carry out `operations` alone."""
        self.pipeline.tick(list(operations), None)

    def read(self, batch: int, rows: list[list[int]]) -> mx.array:
        """Let the rows of `batch` read these; returns the logits [rows, vocabulary] after the last token of each."""
        lengths = [len(row) for row in rows]
        width = max(lengths)
        tokens = mx.array([row + [0] * (width - len(row)) for row in rows])
        logits = self.pipeline.tick([], Work(batch, tokens, lengths if min(lengths) < width else [], "last"))
        assert logits is not None
        mx.eval(logits, self.stage.state(batch))
        return logits[:, -1]

    def fresh(self, tokens: list[int]) -> mx.array:
        """Logits after `tokens` as mlx-lm's own model and caches have them."""
        key = tuple(tokens)
        if key not in self._known:
            self._known[key] = self._reference(mx.array([tokens]), cache=make_prompt_cache(self._reference))[0, -1]
            mx.eval(self._known[key])
        return self._known[key]


def close(one: mx.array, other: mx.array, tolerance: float = 1e-3) -> bool:
    difference = mx.linalg.norm(one - other)
    return bool((difference <= tolerance * mx.linalg.norm(other - mx.mean(other))).item())
