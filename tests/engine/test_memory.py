from __future__ import annotations

from mlxserve.config import Settings
from mlxserve.engine.memory import KV_SHARE, PREFIX_SHARE, Bound, Ledger, bounds
from mlxserve.pipeline.footprint import Footprint
from mlxserve.pipeline.row_cache import STEP

PLAIN = Footprint(token_bytes=100)
ROOMY = 1_000_000_000


def test_a_batch_is_counted_as_wide_as_its_longest_row_has_become() -> None:
    ledger = Ledger([Bound(PLAIN, ROOMY)])
    assert ledger.bytes_of([1, 300]) == ledger.bytes_of([2 * STEP - 1] * 2)
    assert ledger.bytes_of([1, 300])[0] >= 2 * 2 * STEP * 100


def test_every_rank_must_have_room() -> None:
    small = Bound(PLAIN, 3 * STEP * 100)
    assert Ledger([Bound(PLAIN, ROOMY), small]).fits([200, 200])
    assert not Ledger([Bound(PLAIN, ROOMY), small]).fits([200, 200, 200])


def test_batches_count_together() -> None:
    ledger = Ledger([Bound(PLAIN, 3 * STEP * 100)])
    assert ledger.fits([200], [200])
    assert not ledger.fits([200], [200, 200])


def test_a_window_takes_no_more_than_its_length() -> None:
    window = Ledger([Bound(Footprint(windows=[(100, 512)]), ROOMY)], chunk=0)
    assert window.bytes_of([511]) == window.bytes_of([100_000])


def test_a_chunk_is_held_beside_the_windows_while_it_is_read() -> None:
    windows = Bound(Footprint(windows=[(100, 512)]), ROOMY)
    silent, reading = Ledger([windows], chunk=0), Ledger([windows], chunk=1000)
    assert reading.bytes_of([500] * 4) == silent.bytes_of([500] * 4), "what is within its window is held once"
    for rows in (1, 5):
        (more,), (less,) = reading.bytes_of([5000] * rows), silent.bytes_of([5000] * rows)
        assert 1000 * 100 <= more - less <= 1.1 * 1000 * 100 + 1
    assert Ledger([Bound(PLAIN, ROOMY)], chunk=1000).bytes_of([5000]) == Ledger([Bound(PLAIN, ROOMY)]).bytes_of([5000])


def test_a_sequence_is_let_in_with_a_share_of_its_answer() -> None:
    ledger = Ledger([Bound(PLAIN, 2 * 4 * STEP * 110)])
    assert ledger.admits([200], prompt_length=900, max_tokens=100)
    assert not ledger.admits([200], prompt_length=900, max_tokens=1000)
    assert not ledger.admits([200, 200], prompt_length=900, max_tokens=100)


def test_a_bound_on_the_answer_that_nobody_uses_up_does_not_keep_others_out() -> None:
    ledger = Ledger([Bound(PLAIN, 2 * 8 * STEP * 110)])
    assert ledger.admits([200], prompt_length=100, max_tokens=100_000)


def test_alone_whatever_fits_is_let_in() -> None:
    ledger = Ledger([Bound(PLAIN, 4 * STEP * 110)])
    assert ledger.longest == 4 * STEP - 1
    assert ledger.admits([], prompt_length=ledger.longest, max_tokens=5000)
    assert not ledger.admits([], prompt_length=ledger.longest + 1, max_tokens=1)


def test_sequences_that_take_no_more_when_they_grow_are_as_long_as_they_like() -> None:
    assert Ledger([Bound(Footprint(sequence_bytes=1000), 2000)]).longest > 1_000_000
    assert Ledger([Bound(Footprint(sequence_bytes=3000), 2000)]).longest == 0


def test_free_memory_is_shared_out() -> None:
    running, stored = bounds(Settings(), PLAIN, 1000)
    assert (running.bytes, stored.bytes) == (KV_SHARE * 1000, PREFIX_SHARE * 1000)


def test_what_the_user_bounds_is_bounded_so_and_the_other_gets_of_the_rest() -> None:
    running, stored = bounds(Settings(kv_cache_bytes=800), PLAIN, 1000)
    assert (running.bytes, stored.bytes) == (800, 50)
    running, stored = bounds(Settings(prefix_cache_bytes=0), PLAIN, 1000)
    assert (running.bytes, stored.bytes) == (850, 0)
    running, stored = bounds(Settings(kv_cache_bytes=70, prefix_cache_bytes=50), PLAIN, 0)
    assert (running.bytes, stored.bytes) == (70, 50)


def test_where_free_memory_is_not_known_running_sequences_are_not_bounded() -> None:
    running, stored = bounds(Settings(), PLAIN, 0)
    assert Ledger([running]).fits([100_000] * 100)
    assert stored.bytes == 0
