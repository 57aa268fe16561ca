from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle
from typing import Any

import pytest

from mlxserve.config import Passes
from mlxserve.engine.pace import Pace
from mlxserve.engine.warmup import first_pace, measured, prove, warm_up
from mlxserve.pipeline.pipeline import OneRank, Work
from tests.pipeline.one_rank import VOCABULARY, TinyModel


@pytest.mark.parametrize(
    ("model_type", "batched"), [("qwen2", True), ("lfm2", True), ("llama", True), ("mamba", False)]
)
def test_rows_are_read_together_only_where_they_go_on_as_alone(model_type: str, batched: bool) -> None:
    """mlx-lm's mamba keeps the filling in its state: the token after the next would be another."""
    pipeline = TinyModel(model_type).pipeline
    assert warm_up(pipeline) == VOCABULARY
    assert pipeline.batchable == batched


def test_a_proof_computes_a_token_and_leaves_nothing_behind() -> None:
    model = TinyModel("qwen2")
    before = model.pipeline.tokens
    for _ in range(2):
        prove(model.pipeline)
    assert model.pipeline.tokens == before + 2
    with pytest.raises(KeyError):
        model.stage.caches(0)


@pytest.mark.parametrize(("long_from", "largest"), [(1000, 256), (8, 8)])
def test_sizes_are_measured_until_one_takes_long(monkeypatch: pytest.MonkeyPatch, long_from: int, largest: int) -> None:
    pace = _measured(monkeypatch, lambda tokens: 1.0 if tokens >= long_from else 0.001)
    pace.note(largest, 1.0)
    assert pace.knows(largest)
    pace.note(4 * largest, 1.0)
    assert not pace.knows(4 * largest)


def test_a_first_pass_that_takes_longer_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    took = cycle([0.09, 0.01])
    pace = _measured(monkeypatch, lambda _: next(took))
    assert [pace.tick(size) for size in (1, 8, 256)] == pytest.approx([0.01] * 3)


def test_what_was_measured_with_the_same_split_is_not_measured_again() -> None:
    known = Passes((2, 2), ((1, 0.5), (8, 1.0)))
    pipeline = TinyModel("qwen2").pipeline
    assert measured(pipeline, (2, 2), known) == known
    assert pipeline.tokens == 0
    anew = measured(pipeline, (3, 1), known)
    assert anew.split == (3, 1)
    assert anew.seconds != known.seconds
    assert pipeline.tokens > 0
    assert first_pace(2, known).tick(8) == 0.5


def _measured(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int], float]) -> Pace:
    """What is measured of a model whose passes take `seconds`, told their tokens."""
    clock, tick = [0.0], OneRank.tick
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def timed(pipeline: OneRank, operations: list[Any], work: Work | None) -> Any:
        clock[0] += seconds(work.tokens.size) if work else 0.0
        return tick(pipeline, operations, work)

    monkeypatch.setattr(OneRank, "tick", timed)
    return first_pace(1, measured(TinyModel("qwen2").pipeline))
