from __future__ import annotations

import pytest

from mlxserve.engine.warmup import prove, warm_up
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
