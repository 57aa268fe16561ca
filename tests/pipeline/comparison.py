"""A model type split over ranks against mlx-lm's own model on one: logits alone, batched, and after a stored beginning.

They must be equal bit by bit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import _get_classes

from mlxserve.config import Place, Settings
from mlxserve.engine.warmup import warm_up
from mlxserve.pipeline.loading import load_model
from mlxserve.pipeline.pipeline import OneRank, Pipeline, Work
from mlxserve.pipeline.plan import CacheOperation, Drop, Join, Keep, Open, Span, Store

from .all_ranks import AllRanks

CONFIGS: dict[str, dict[str, Any]] = {
    entry["model_type"]: entry["config"]
    for entry in json.loads(Path(__file__).with_name("model-configs.json").read_text())
}
NEEDS_METAL = {"bitnet", "muse_spark"}
"""Types whose layers compute by kernels that only Metal has."""
LENGTHS = (1, 7, 300)
"""Of prompts: a decode step's, less than a window, and more than a cache's first room."""
DECODE_STEPS = 2

Logits = list[mx.array]
MakeModel = Callable[[], nn.Module]
"""Makes the same model each time."""


def tiny(model_type: str) -> MakeModel:
    """The type with the same random weights each time."""

    def make() -> nn.Module:
        mx.random.seed(0)
        model_class, arguments = _get_classes(CONFIGS[model_type])
        model: nn.Module = model_class(arguments.from_dict(CONFIGS[model_type]))
        model.eval()
        return model

    return make


class Expected:
    """What mlx-lm's model gives, and this one on one rank."""

    def __init__(self, make: MakeModel) -> None:
        model = make()
        loaded = load_model(make(), Settings())
        whole = OneRank(loaded.stage, loaded.batchable)
        warm_up(whole)
        self.batchable = whole.batchable
        """Whether prompts of different lengths get in a batch what they get alone."""
        self.alone = [_by_mlx_lm(model, length) for length in LENGTHS]
        self.reused = reused(whole)
        self.batched = batched(whole) if self.batchable else []

    def differences(self, pipeline: Pipeline) -> list[str]:
        """Where logits of `pipeline` differ."""
        found = [
            f"alone, {length} tokens"
            for length, expected in zip(LENGTHS, self.alone, strict=True)
            if not _equal(expected, alone(pipeline, length))
        ]
        if not _equal(self.reused, reused(pipeline)):
            found.append("after a stored beginning")
        if self.batchable and not _equal(self.batched, batched(pipeline)):
            found.append("batched")
        return found


def split_in_one_process(make: MakeModel, world_size: int, batchable: bool) -> AllRanks:
    """The model over so many ranks. Raises UserError if it cannot be split so."""
    models = [load_model(make(), Settings(place=Place(rank, world_size))) for rank in range(world_size)]
    return AllRanks(models, batchable)


def alone(pipeline: Pipeline, length: int) -> Logits:
    """Logits of a prompt of `length` tokens and of some decode steps."""
    results = [_run(pipeline, [Open(1, 1)], Work(1, _tokens(1, length, 7), [], "all"))]
    for step in range(DECODE_STEPS):
        results.append(_run(pipeline, [], Work(1, _tokens(1, 1, step), [], "last")))
    pipeline.tick([Keep(1, [])], None)
    return results


def batched(pipeline: Pipeline) -> Logits:
    """Logits of rows that are read together, joined by another, decoded, left by one, and decoded again."""
    lengths = [3, 7, 5]
    rows = _tokens(3, 7, 1)
    results = [_run(pipeline, [Open(1, 3)], Work(1, rows, lengths, "last"))]
    results.append(_run(pipeline, [Open(2, 1)], Work(2, _tokens(1, 12, 2), [], "last")))
    results.append(_run(pipeline, [Join(1, 2)], Work(1, _tokens(4, 1, 3), [], "last")))
    results.append(_run(pipeline, [Keep(1, [0, 2, 3])], Work(1, _tokens(3, 1, 5), [], "last")))
    pipeline.tick([Keep(1, [])], None)
    return results


def reused(pipeline: Pipeline) -> Logits:
    """Logits of a prompt that is stored in two segments, then of others that begin with them."""
    prompt = _tokens(1, 40, 8)
    results = [_run(pipeline, [Open(1, 1)], Work(1, prompt[:, :24], [], "last"))]
    results.append(_run(pipeline, [Store(1, 0, 0, 24, "first")], Work(1, prompt[:, 24:30], [], "last")))
    pipeline.tick([Store(1, 0, 24, 30, "second"), Keep(1, [])], None)
    spans = [Span("first", 24), Span("second", 6)]
    results.append(_run(pipeline, [Open(2, 1, [spans])], Work(2, prompt[:, 30:], [], "last")))
    results.append(_run(pipeline, [], Work(2, _tokens(1, 1, 9), [], "last")))
    pipeline.tick([Keep(2, []), Drop("first"), Drop("second")], None)
    return results


def _by_mlx_lm(model: nn.Module, length: int) -> Logits:
    """What `alone` gives, from mlx-lm's own model, with its own caches for one prompt."""
    caches = make_prompt_cache(model)
    results = []
    for step in [_tokens(1, length, 7), *(_tokens(1, 1, step) for step in range(DECODE_STEPS))]:
        results.append(model(step, cache=caches))
        mx.eval(results[-1])
    return results


def _run(pipeline: Pipeline, operations: list[CacheOperation], work: Work) -> mx.array:
    logits = pipeline.tick(operations, work)
    while logits is None:
        logits = pipeline.tick([], None)
    mx.eval(logits)
    return logits


def _tokens(rows: int, length: int, seed: int) -> mx.array:
    return mx.random.randint(5, 500, (rows, length), key=mx.random.key(seed))


def _equal(expected: Logits, actual: Logits) -> bool:
    return all(mx.array_equal(one, other, equal_nan=True).item() for one, other in zip(expected, actual, strict=True))
