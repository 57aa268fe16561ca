"""A model type split over ranks against mlx-lm's own model on one: logits must be equal bit by bit.

mlx-lm's own calls MLX's functions, and the split one what an engine process has in their place.

They are those of a prompt alone, of one in pieces, of a batch, and of what follows a stored beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache

from mlxserve.config import Place, Settings
from mlxserve.engine.warmup import warm_up
from mlxserve.pipeline.composed import compose
from mlxserve.pipeline.loading import load_model
from mlxserve.pipeline.pipeline import OneRank, Pipeline, Work
from mlxserve.pipeline.plan import CacheOperation, Drop, Join, Keep, Open, Span, Store

from .all_ranks import AllRanks
from .one_rank import close
from .tiny_models import CONFIGS, instantiate

LENGTHS = (1, 7, 300)
"""Of prompts: a decode step's, less than a window, and more than a cache's first room."""
DECODE_STEPS = 2
PIECES = (45, 55)
"""Tokens of a prompt that is read in two: more than a window, and neither ends where a block of attention does."""

Logits = list[mx.array]
MakeModel = Callable[[], nn.Module]
"""Makes the same model each time."""


@contextmanager
def composing() -> Iterator[None]:
    """Models call what they call in an engine process."""
    names = ["rope", "rms_norm", "scaled_dot_product_attention"]
    functions = {name: getattr(mx.fast, name) for name in names}
    compose(compiles=True)
    try:
        yield
    finally:  # else what is compared after a failure would be compared with itself
        for name, function in functions.items():
            setattr(mx.fast, name, function)


def tiny(model_type: str) -> MakeModel:
    """The type with the same random weights each time."""
    return lambda: instantiate(CONFIGS[model_type])


class Expected:
    """What mlx-lm's model gives, and this one on one rank."""

    def __init__(self, make: MakeModel) -> None:
        model = make()
        steps = [_tokens(1, 1, step) for step in range(DECODE_STEPS)]
        self.alone = [_by_mlx_lm(model, [_tokens(1, length, 7), *steps]) for length in LENGTHS]
        self.in_pieces = _by_mlx_lm(model, _pieces())
        at_once = _by_mlx_lm(model, [mx.concatenate(_pieces(), axis=1)])
        self.depends_on_pieces = not _alike(at_once[0][:, -1], self.in_pieces[1][:, -1])
        """Whether mlx-lm's own model gives a prompt that is read in pieces other logits than if read at once."""
        loaded = load_model(make(), Settings())
        whole = OneRank(loaded.stage, loaded.batchable)
        with composing():
            warm_up(whole)
            self.batchable = whole.batchable
            """Whether prompts of different lengths get in a batch what they get alone."""
            self.reused = reused(whole)
            self.batched = batched(whole) if self.batchable else []

    def differences(self, pipeline: Pipeline) -> list[str]:
        """Where logits of `pipeline` differ."""
        with composing():
            return self._differences(pipeline)

    def _differences(self, pipeline: Pipeline) -> list[str]:
        found = [
            f"alone, {length} tokens"
            for length, expected in zip(LENGTHS, self.alone, strict=True)
            if not _equal(expected, alone(pipeline, length))
        ]
        if not _equal(self.in_pieces, in_pieces(pipeline)):
            found.append("in pieces")
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
    """Logits of rows that are read together, joined by another, and decoded while they leave and others come."""
    lengths = [3, 7, 5]
    rows = _tokens(3, 7, 1)
    results = [_run(pipeline, [Open(1, 3)], Work(1, rows, lengths, "last"))]
    results.append(_run(pipeline, [Open(2, 1)], Work(2, _tokens(1, 12, 2), [], "last")))
    results.append(_run(pipeline, [Join(1, 2)], Work(1, _tokens(4, 1, 3), [], "last")))
    results.append(_run(pipeline, [Keep(1, [0, 2, 3])], Work(1, _tokens(3, 1, 5), [], "last")))
    results.append(_run(pipeline, [Keep(1, [2, 1], spare=1)], Work(1, _tokens(2, 1, 6), [], "last")))
    results.append(_run(pipeline, [Open(3, 1)], Work(3, _tokens(1, 9, 2), [], "last")))
    results.append(_run(pipeline, [Join(1, 3)], Work(1, _tokens(3, 1, 4), [], "last")))
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


def in_pieces(pipeline: Pipeline) -> Logits:
    """Logits of a prompt that is read in two."""
    first, second = _pieces()
    results = [_run(pipeline, [Open(1, 1)], Work(1, first, [], "all")), _run(pipeline, [], Work(1, second, [], "all"))]
    pipeline.tick([Keep(1, [])], None)
    return results


def _by_mlx_lm(model: nn.Module, steps: list[mx.array]) -> Logits:
    """Of mlx-lm's own model, with its own caches for one prompt, for the tokens of each step."""
    caches = make_prompt_cache(model)
    results = []
    for step in steps:
        results.append(model(step, cache=caches))
        mx.eval(results[-1])
    return results


def _run(pipeline: Pipeline, operations: list[CacheOperation], work: Work) -> mx.array:
    logits = pipeline.tick(operations, work)
    while logits is None:
        logits = pipeline.tick([], None)
    mx.eval(logits)
    return logits


def _pieces() -> list[mx.array]:
    return mx.split(_tokens(1, sum(PIECES), 4), list(PIECES[:1]), axis=1)


def _tokens(rows: int, length: int, seed: int) -> mx.array:
    return mx.random.randint(5, 500, (rows, length), key=mx.random.key(seed))


def _equal(expected: Logits, actual: Logits) -> bool:
    return all(mx.array_equal(one, other, equal_nan=True).item() for one, other in zip(expected, actual, strict=True))


def _alike(one: mx.array, other: mx.array) -> bool:
    """But for rounding; logits of tokens that are never drawn are not looked at."""
    return close(*(mx.nan_to_num(logits, neginf=0.0) for logits in (one, other)))
