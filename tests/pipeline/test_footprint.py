from __future__ import annotations

import pytest

from mlxserve.pipeline.footprint import Footprint
from mlxserve.pipeline.plan import Drop, Keep, Open, Store

from .one_rank import TinyModel


@pytest.mark.parametrize(
    "model_type", ["qwen2", "deepseek_v3", "lfm2", "qwen3_next", "llama", "gpt_oss", "glm4_moe_lite"]
)
@pytest.mark.parametrize("rows", [1, 3])
def test_caches_take_the_bytes_that_were_predicted(model_type: str, rows: int) -> None:
    model = TinyModel(model_type)
    model.do(Open(1, rows))
    model.read(1, [list(range(3, 40 + row)) for row in range(rows)])
    model.read(1, [[5]] * rows)
    held = sum(cache.nbytes for cache in model.stage.caches(1))
    model.do(Keep(1, []))
    assert held == model.loaded.footprint.batch_bytes([38 + row for row in range(rows)])


def test_a_segment_takes_its_tokens_bytes_and_no_room_for_more() -> None:
    model = TinyModel("qwen2")
    model.do(Open(1, 2))
    model.read(1, [list(range(3, 40)), [7, 8]])
    model.do(Store(1, 0, 10, 37, "a"))
    assert model.stage.segments.sizes == {"a": 27 * model.loaded.footprint.token_bytes}
    model.do(Drop("a"), Keep(1, []))
    assert model.stage.segments.nbytes == 0


def test_quantized_caches_take_the_bytes_that_were_predicted() -> None:
    plain, packed = TinyModel("qwen2", num_attention_heads=2), TinyModel("qwen2", kv_bits=8, num_attention_heads=2)
    packed.do(Open(1, 1))
    packed.read(1, [list(range(3, 40))])
    held = sum(cache.nbytes for cache in packed.stage.caches(1))
    packed.do(Keep(1, []))
    assert held == packed.loaded.footprint.batch_bytes([37])
    assert packed.loaded.footprint.token_bytes * 3 < plain.loaded.footprint.token_bytes


def test_a_window_costs_no_more_when_it_is_full() -> None:
    footprint = Footprint(token_bytes=10, windows=[(100, 16)], sequence_bytes=7)
    assert footprint.bytes_of(8) == 80 + 800 + 7
    assert footprint.bytes_of(1000) == 10_000 + 1600 + 7


def test_every_row_of_a_batch_has_the_room_of_the_longest() -> None:
    assert Footprint(token_bytes=2).batch_bytes([5, 300]) == 2 * 2 * 512
    assert Footprint(token_bytes=2).batch_bytes([]) == 0
