from __future__ import annotations

import mlx.core as mx
import pytest

from mlxserve.errors import UserError
from mlxserve.pipeline.plan import Keep, Open, Span, Store, Trim
from mlxserve.pipeline.quantized_row_cache import group_size_for

from .one_rank import TinyModel, close

WIDE = {"num_attention_heads": 2}
"""Heads 32 wide, which a group divides."""


@pytest.mark.parametrize(("bits", "tolerance"), [(8, 0.02), (4, 0.4)])
@pytest.mark.parametrize("model_type", ["qwen2", "qwen3_next", "llama"])
def test_logits_stay_near_those_of_whole_numbers(model_type: str, bits: int, tolerance: float) -> None:
    changes = {"head_dim": 32} if model_type == "qwen3_next" else WIDE
    model = TinyModel(model_type, kv_bits=bits, **changes)
    tokens = list(range(3, 50))
    model.do(Open(1, 1))
    logits = model.read(1, [tokens])[0]
    model.do(Keep(1, []))
    assert close(logits, model.fresh(tokens), tolerance)
    assert not close(logits, model.fresh(tokens), 1e-5)


def test_rows_of_different_lengths_are_read_trimmed_and_stored_as_each_alone() -> None:
    model = TinyModel("qwen2", kv_bits=8, **WIDE)
    rows = [[3, 4, 5], list(range(5, 45))]
    model.do(Open(1, 2))
    model.read(1, rows)
    model.do(Trim(1, [1, 3]), Store(1, 1, 0, 30, "a"))
    together = model.read(1, [[9], [10]])
    model.do(Keep(1, []), Open(2, 3, [[], [Span("a", 30)], [Span("a", 7)]]))
    begun = model.read(2, [[3, 4, 9], [*rows[1][30:37], 10], [*rows[1][7:37], 10]])
    assert close(begun[0], together[0], 1e-4)
    assert close(begun[1], together[1], 0.01)
    assert close(begun[2], together[1], 0.01)
    model.do(Keep(2, []))


@pytest.mark.parametrize("model_type", ["deepseek_v3", "gemma2", "plamo2", "mamba", "llama4"])
def test_a_model_that_cannot_compute_on_quantized_caches_is_refused(model_type: str) -> None:
    with pytest.raises(UserError, match="--kv-bits 8: no KV cache of this model can be quantized"):
        TinyModel(model_type, kv_bits=8)


def test_heads_that_no_group_divides_are_refused() -> None:
    with pytest.raises(UserError, match="multiple of 32"):
        TinyModel("qwen2", kv_bits=4)


def test_groups_are_as_large_as_they_may_be() -> None:
    assert (group_size_for([128, 64]), group_size_for([96, 64]), group_size_for([80, 64])) == (64, 32, 0)
    assert group_size_for([64, 0]) == 0


def test_a_decode_step_reads_what_was_packed_before() -> None:
    model = TinyModel("qwen2", kv_bits=8, **WIDE)
    model.do(Open(1, 1))
    for token in range(3, 20):
        logits = model.read(1, [[token]])
    kept = [cache for cache in model.stage.caches(1) if cache.state]
    assert all(array.dtype in (mx.uint32, mx.float32) for cache in kept for array in cache.state)
    assert all(len(cache.state) == 6 for cache in kept)
    assert close(logits[0], model.fresh(list(range(3, 20))), 0.02)
    model.do(Keep(1, []))
