from __future__ import annotations

import mlx.core as mx
import pytest
from mlx_lm.models.base import create_causal_mask

from mlxserve.pipeline.plan import Keep, Open
from mlxserve.pipeline.row_cache import STEP, RowCache

from .one_rank import TinyModel, close
from .tiny_models import CONFIGS

MLX_LM_DIFFERS = {
    *("afm7", "baichuan_m1", "bailing_moe_linear", "falcon_mamba", "jamba", "longcat_flash_ngram", "mamba"),
    *("minimax_m3_vl", "nemotron_h", "olmo_hybrid", "plamo3", "recurrent_gemma", "rwkv7"),
}
"""Their models in mlx-lm give other results for rows of different lengths whatever the cache, or in pieces."""


@pytest.mark.parametrize("model_type", sorted(set(CONFIGS) - MLX_LM_DIFFERS))
def test_rows_of_different_lengths_are_read_and_go_on_as_each_alone(model_type: str) -> None:
    model = TinyModel(model_type)
    if not model.loaded.batchable:
        pytest.skip("mlx-lm's model takes one prompt at a time")
    rows = [[3, 4, 5], list(range(5, 45)), list(range(50, 29, -1)), [7]]
    model.do(Open(1, len(rows)))
    for new in (rows, [[9], [8], [7], [6]], [[5, 6], [4], [3, 9, 9], [8, 7, 6, 5]], [[1], [2], [3], [4]]):
        logits = model.read(1, new)
        rows = new if new is rows else [row + more for row, more in zip(rows, new, strict=True)]
        for row, found in zip(rows, logits, strict=True):
            assert close(found, model.fresh(row))
    model.do(Keep(1, []))


def of_lengths(lengths: list[int], room: int = 0) -> RowCache:
    """A cache with numbers that tell row and position."""
    cache = RowCache(len(lengths))
    width = max(lengths) + room
    cache.prepare(lengths=lengths, right_padding=[width - length for length in lengths])
    numbers = mx.arange(len(lengths))[:, None, None, None] * 1000.0 + mx.arange(width)[:, None]
    cache.update_and_fetch(mx.broadcast_to(numbers, (len(lengths), 2, width, 4)), numbers)
    cache.finalize()
    return cache


def positions(cache: RowCache, row: int) -> list[float]:
    keys, values = cache.extract(row, 0, cache.lengths[row])
    assert mx.array_equal(keys[0, 0, :, 0], values[0, 0, :, 0]).item()
    found: list[float] = values[0, 0, :, 0].tolist()  # type: ignore[assignment]
    return found


def test_filling_does_not_count() -> None:
    cache = of_lengths([3, 7], room=5)
    assert cache.offset.tolist() == [3, 7]
    cache.update_and_fetch(mx.full((2, 2, 1, 4), 0.5), mx.full((2, 1, 1, 1), 0.5))
    assert positions(cache, 0) == [0, 1, 2, 0.5]
    assert positions(cache, 1) == [1000, 1001, 1002, 1003, 1004, 1005, 1006, 0.5]


def test_a_row_sees_its_own_tokens_and_no_other_place() -> None:
    cache = of_lengths([2, 5])
    mask = cache.make_mask(2)
    assert isinstance(mask, mx.array)
    for row, length in enumerate(cache.lengths):
        alone = create_causal_mask(2, length)
        assert mx.array_equal(mask[row, 0, :, : length + 2], alone).item()
        assert not mx.any(mask[row, 0, :, length + 2 :]).item()


def test_a_window_is_counted_from_each_rows_own_end() -> None:
    mask = of_lengths([2, 5]).make_mask(1, window_size=2)
    assert isinstance(mask, mx.array)
    assert mask[:, 0, 0].tolist() == [[False, True, True, False, False, False], [False] * 4 + [True, True]]


def test_rows_of_one_length_need_no_mask_of_their_own() -> None:
    cache = of_lengths([4, 4])
    assert cache.make_mask(1) is None
    assert cache.make_mask(3) == "causal"
    assert mx.array_equal(cache.make_mask(3, return_array=True), create_causal_mask(3, 4)).item()


def test_rows_that_join_bring_what_they_hold() -> None:
    cache = of_lengths([3, STEP + 5])
    cache.extend(of_lengths([2]))
    assert cache.lengths == [3, STEP + 5, 2]
    assert positions(cache, 0) == [0, 1, 2]
    assert positions(cache, 2) == [0, 1]
    assert positions(cache, 1)[-1] == 1000 + STEP + 4


def test_room_is_given_back_when_the_long_rows_go() -> None:
    cache = of_lengths([3, 4 * STEP, 2])
    full = cache.nbytes
    cache.filter([0, 2])
    assert cache.nbytes == full * 2 // 3 // 4
    assert positions(cache, 1) == [2000, 2001]


def kept(cache: RowCache, rows: list[int], spare: int) -> bool:
    """Whether dropping all but `rows` was done in place."""
    lifted = cache.lifted(rows, spare)
    mx.eval(lifted)
    cache.filter(rows, spare, lifted)
    return lifted is not None


def test_rows_come_into_the_room_of_those_that_left() -> None:
    cache = of_lengths([3, 7, 5, 2])
    full = cache.nbytes
    assert kept(cache, [0, 3, 2], spare=1)
    cache.extend(of_lengths([6]))
    assert cache.nbytes == full
    assert cache.lengths == [3, 2, 5, 6]
    assert [positions(cache, row)[0] for row in range(4)] == [0, 3000, 2000, 0]
    assert positions(cache, 3) == [0, 1, 2, 3, 4, 5]


def test_rows_are_written_and_read_beside_spare_ones() -> None:
    cache = of_lengths([3, 7, 5])
    assert kept(cache, [0, 2], spare=1)
    mask = cache.make_mask(1)
    keys, values = cache.update_and_fetch(mx.full((2, 2, 1, 4), 0.5), mx.full((2, 1, 1, 1), 0.5))
    assert keys.shape[0] == values.shape[0] == 2
    assert isinstance(mask, mx.array)
    assert mask.shape == (2, 1, 1, 6)
    assert positions(cache, 0) == [0, 1, 2, 0.5]
    assert positions(cache, 1) == [2000, 2001, 2002, 2003, 2004, 0.5]


def test_room_for_rows_to_come_grows_with_the_others_and_can_be_given_back() -> None:
    cache = of_lengths([STEP - 1, 7, 5])
    assert kept(cache, [0, 2], spare=1)
    for _ in range(3):
        cache.update_and_fetch(mx.zeros((2, 2, 1, 4)), mx.zeros((2, 1, 1, 1)))
    full = cache.nbytes
    assert cache.state[0].shape == (3, 2, 2 * STEP, 4)
    assert not kept(cache, [0, 1], spare=0)
    assert cache.nbytes == full * 2 // 3
    assert positions(cache, 1)[:5] == [2000, 2001, 2002, 2003, 2004]


def test_more_rows_than_there_is_room_for_can_come() -> None:
    cache = of_lengths([3, 7, 5])
    kept(cache, [0, 2], spare=1)
    cache.extend(of_lengths([6, 4]))
    assert cache.state[0].shape[0] == 4
    assert [positions(cache, row)[-1] for row in range(4)] == [2, 2004, 5, 1003]


def test_coming_and_leaving_copies_only_the_rows_that_move() -> None:
    cache = of_lengths([STEP - 9] * 32)
    mx.eval(cache.state)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    assert kept(cache, [31, *range(1, 31)], spare=1)
    mx.eval(cache.state)
    cache.extend(of_lengths([50]))
    mx.eval(cache.state)
    assert mx.get_peak_memory() - before < cache.nbytes // 4


def test_a_decode_step_rarely_needs_new_room() -> None:
    cache = of_lengths([1, 2])
    sizes = set()
    for _ in range(2 * STEP):
        cache.update_and_fetch(mx.zeros((2, 2, 1, 4)), mx.zeros((2, 1, 1, 1)))
        sizes.add(cache.nbytes)
    assert len(sizes) <= 3


def test_rows_can_be_cut_by_different_counts() -> None:
    cache = of_lengths([3, 7])
    cache.trim([1, 4])
    cache.update_and_fetch(mx.full((2, 2, 1, 4), 9), mx.full((2, 1, 1, 1), 9))
    assert positions(cache, 0) == [0, 1, 9]
    assert positions(cache, 1) == [1000, 1001, 1002, 9]


def test_what_is_extracted_does_not_hold_the_batch() -> None:
    cache = of_lengths([10_000, 10_000])
    mx.eval(cache.state)
    before = mx.get_active_memory()
    taken = cache.extract(1, 0, 100)
    mx.eval(taken)
    assert mx.get_active_memory() - before < 2 * sum(array.nbytes for array in taken)
    held = cache.nbytes
    del cache
    assert mx.get_active_memory() <= before - held + 2 * sum(array.nbytes for array in taken)
