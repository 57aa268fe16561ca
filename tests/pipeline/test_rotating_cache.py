"""Caches that keep a window: no more is held, or stored, than later tokens can see."""

from __future__ import annotations

import mlx.core as mx
import pytest

from mlxserve.pipeline.pipeline import Work
from mlxserve.pipeline.plan import Join, Open, Span, Store

from .one_rank import CONFIGS, TinyModel, close

WINDOW = 8
LONG = [(3 * place) % 60 + 1 for place in range(40)]
SHORT = [(5 * place) % 60 + 1 for place in range(12)]


def model() -> TinyModel:
    return TinyModel("gemma3_text", sliding_window=WINDOW)


def held(tiny: TinyModel, batch: int) -> int:
    return sum(cache.nbytes for cache in tiny.stage.caches(batch))


def test_after_a_chunk_each_row_holds_its_window() -> None:
    tiny = model()
    tiny.do(Open(1, 2))
    tiny.read(1, [LONG, SHORT])
    assert held(tiny, 1) == tiny.loaded.footprint.batch_bytes([len(LONG), len(SHORT)])


def test_rows_that_join_bring_their_windows_alone() -> None:
    tiny = model()
    tiny.do(Open(1, 1), Open(2, 1))
    tiny.read(1, [LONG])
    tiny.read(2, [SHORT])
    tiny.do(Join(1, 2))
    assert held(tiny, 1) == tiny.loaded.footprint.batch_bytes([len(LONG), len(SHORT)])
    for logits, row in zip(tiny.read(1, [[7], [9]]), [[*LONG, 7], [*SHORT, 9]], strict=True):
        assert close(logits, tiny.fresh(row))


def test_a_row_that_waits_while_others_are_read_is_stored_with_its_window() -> None:
    tiny = model()
    tiny.do(Open(1, 2))
    tiny.read(1, [LONG[:20], SHORT])
    tiny.pipeline.tick([], Work(1, mx.array([LONG[20:], [0] * 20]), [20, 0], "none"))
    tiny.do(Store(1, 0, 0, 40, "long"), Store(1, 1, 0, 12, "short"))
    footprint = tiny.loaded.footprint
    assert tiny.stage.segments.sizes == {"long": footprint.bytes_of(40), "short": footprint.bytes_of(12)}
    tiny.do(Open(2, 2, [[Span("short", 12)], [Span("long", 40)]]))
    for count in (1, 2, 3):
        new = [7, 9, 11][:count]
        for logits, row in zip(tiny.read(2, [new[-1:]] * 2), [[*SHORT, *new], [*LONG, *new]], strict=True):
            assert close(logits, tiny.fresh(row))


@pytest.mark.parametrize("lengths", [[5], [40], [38, 1], [20, 20], [30, 1, 1, 1]])
def test_chunks_of_attention_are_stored_without_what_lies_before_them(lengths: list[int]) -> None:
    tiny = TinyModel("llama4", text_config=CONFIGS["llama4"]["text_config"] | {"vocab_size": 64})
    tokens = LONG[: sum(lengths)]
    tiny.do(Open(1, 1))
    start = 0
    for length in lengths:
        tiny.read(1, [tokens[start : start + length]])
        start += length
    tiny.do(Store(1, 0, 0, start, "a"))
    assert tiny.stage.segments.sizes == {"a": tiny.loaded.footprint.bytes_of(start)}
    tiny.do(Open(2, 1, [[Span("a", start)]]))
    for new in (7, 9):
        expected, found = tiny.read(1, [[new]]), tiny.read(2, [[new]])
        assert close(found[0], expected[0])
