from __future__ import annotations

from itertools import pairwise

import pytest

from mlxserve.engine.grouping import Grouping
from mlxserve.engine.pace import Pace
from mlxserve.engine.prefill import MOST_CHUNK_TOKENS, chunk_size
from mlxserve.engine.sharing import Allowance
from tests.engine.tiny import Priced, cut


def measured(ranks: int = 1, **seconds: float) -> Pace:
    pace = Pace(ranks)
    for tokens, value in seconds.items():
        for _ in range(5):
            pace.note(int(tokens.lstrip("n")), value)
    return pace


def test_between_what_was_measured_a_pass_takes_something_between() -> None:
    pace = measured(n1=0.03, n16=0.06, n64=0.12)
    assert pace.tick(1) == pytest.approx(0.03)
    assert pace.tick(40) == pytest.approx(0.09)


def test_beyond_what_was_measured_a_pass_takes_longer_however_flat_it_was_so_far() -> None:
    flat = measured(n1=0.03, n64=0.03)
    assert flat.tick(640) >= 0.15


@pytest.mark.parametrize("disturbed", [0.170, 0.185, 0.200])
def test_a_disturbed_measurement_beside_the_largest_tells_nothing_of_still_larger_passes(disturbed: float) -> None:
    pace = measured(ranks=2, n1=0.021, n32=0.048, n128=0.15, n159=disturbed, n164=0.190)
    assert 0.3 < pace.tick(300) < 0.36
    assert chunk_size(pace, 600, 0, 0) < 160


def test_ranks_together_are_as_much_slower_at_what_was_not_measured_as_at_what_was() -> None:
    pace = measured(ranks=2, n1=0.03, n16=0.06, n64=0.12)
    assert pace.tick(64, "together") == pytest.approx(0.12)
    pace.note(16, 0.09, "together")
    assert pace.tick(64, "together") == pytest.approx(0.18)


def test_passes_that_verify_have_times_of_their_own_but_for_the_first_of_a_size() -> None:
    pace = measured(n8=0.05, n64=0.12)
    pace.note(8, 2.0, "verifying")
    assert pace.verifying(8) == pytest.approx(0.05)
    pace.note(8, 0.06, "verifying")
    assert pace.verifying(8) == pytest.approx(0.06)
    assert pace.verifying(64) == pytest.approx(0.144)
    assert pace.tick(8) == pytest.approx(0.05)


def test_one_disturbed_measurement_does_not_make_larger_passes_look_slow() -> None:
    pace = measured(n8=0.05, n64=0.12)
    pace.note(3, 2.0)
    assert pace.tick(3) <= 0.05
    assert pace.tick(64) == pytest.approx(0.12)


def test_one_disturbed_measurement_of_a_known_size_counts_little() -> None:
    pace = measured(n8=0.05)
    for _ in range(5):
        pace.note(8, 0.05)
    pace.note(8, 0.5)
    assert pace.tick(8) <= 0.056


def test_what_has_become_slower_is_noticed() -> None:
    pace = measured(n8=0.05)
    for _ in range(30):
        pace.note(8, 0.1)
    assert pace.tick(8) == pytest.approx(0.1, rel=0.05)


def test_a_pass_over_several_ranks_takes_a_tick_for_each() -> None:
    assert measured(ranks=3, n8=0.05).seconds(8) == pytest.approx(0.15)


@pytest.mark.parametrize("seconds", [0.01, 0.05, 0.2, 5.0])
def test_the_largest_pass_for_a_time_fits_it_and_no_larger_one_does(seconds: float) -> None:
    pace = measured(n1=0.03, n16=0.06, n64=0.12)
    most = pace.largest(seconds, 500)
    assert most == 0 or pace.tick(most) <= seconds
    assert most == 500 or pace.tick(most + 1) > seconds


def test_one_rank_reads_in_chunks_as_long_as_a_second_allows() -> None:
    assert chunk_size(Priced(1, token_cost=0.1), 10_000, 0, 0) == pytest.approx(960, rel=0.1)
    assert chunk_size(Priced(1, token_cost=0.0), 10_000, 0, 0) == pytest.approx(MOST_CHUNK_TOKENS, rel=0.1)


def test_a_bound_on_the_chunk_is_kept() -> None:
    assert chunk_size(Priced(1, 0.0), 1_000, 0, 100) <= 100
    assert chunk_size(Priced(2, 0.0), 1_000, 0, 7) <= 7


def test_chunks_that_taper_are_as_many_as_even_ones_and_never_grow() -> None:
    sizes = cut(600, 100, longest=600)
    assert len(sizes) == 6
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 100 > sizes[-1]


def test_chunks_that_taper_keep_the_bound_too() -> None:
    sizes = cut(10_000, 100, longest=120)
    assert max(sizes) == 120
    assert sizes[-1] < 100


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.65, 0.8])
def test_however_many_prompts_wait_the_time_between_tokens_grows_by_a_bounded_factor(ranks: int, share: float) -> None:
    pace = Priced(ranks, token_cost=0.05)
    allowance = Allowance(pace, share)
    between = []
    for _ in range(200):
        allowance.decode_step(4)
        seconds = pace.seconds(4)
        gap = ranks > 1
        while tokens := allowance.tokens(10_000, 4, gap):
            allowance.spend(tokens, 4, gap)
            seconds += pace.ranks * max(0.0, pace.tick(tokens) - (pace.tick(4) if gap else 0.0))
            if gap and pace.tick(tokens) <= pace.tick(4):
                break  # it costs nothing: there could be one in each gap
        between.append(seconds)
    usual = sorted(between)[int(0.95 * len(between)) - 1]
    assert usual <= max(3, 1.1 / (1 - share)) * pace.seconds(4)
    assert sum(between) / len(between) <= 1.1 / (1 - share) * pace.seconds(4)
    assert max(between) > pace.seconds(4), "prompts are read, however little"


def test_time_for_prompts_is_saved_until_a_pass_of_many_tokens_can_be_made() -> None:
    pace = Priced(1, token_cost=0.05)
    allowance = Allowance(pace, 0.5)
    assert pace.largest(pace.seconds(16), 10_000) == 16, "what a step allows is enough for a few"
    allowance.nothing_runs()
    passes = []
    for _ in range(40):
        allowance.decode_step(16)
        if tokens := allowance.tokens(10_000, 16, gap=False):
            allowance.spend(tokens, 16, gap=False)
            passes.append(tokens)
    _, *later = passes
    assert set(later) == {pace.largest(1.6 * pace.seconds(16), 10_000)}
    assert sum(map(pace.tick, later)) == pytest.approx(39 * pace.seconds(16), rel=0.06), "nothing saved is lost"


def short_prompts_read(allowance: Allowance, steps: int, prompt: int, decoding: int) -> list[int]:
    """After how many of the decode steps each prompt is read, of prompts that always wait."""
    read = []
    allowance.nothing_runs()
    for step in range(steps):
        allowance.decode_step(decoding)
        while allowance.tokens(prompt, decoding, gap=False, whole=True) == prompt:
            allowance.spend(prompt, decoding, gap=False)
            read.append(step)
    return read


@pytest.mark.parametrize(("share", "wait"), [(0.5, 4), (0.7, 2)])
def test_a_short_prompt_is_read_in_one_pass_at_once_and_the_next_when_that_is_paid_for(share: float, wait: int) -> None:
    pace = Priced(1, token_cost=0.05)
    allowance = Allowance(pace, share)
    prompt = pace.largest(3.6 * pace.seconds(16), 10_000)
    steps = 400
    read = short_prompts_read(allowance, steps, prompt, 16)
    later = [after for after in read if after > 20]
    assert max(after - before for before, after in pairwise(later)) == wait
    assert len(read) * pace.tick(prompt) <= share / (1 - share) * (steps + 16 + 6) * pace.seconds(16)


def test_a_small_share_lets_no_prompt_but_the_shortest_be_read_whole() -> None:
    pace = Priced(1, token_cost=0.05)
    assert Allowance(pace, 0.5).whole(16) == pace.largest(4 * pace.seconds(16), 10_000)
    assert Allowance(pace, 0.9).whole(16) == Allowance(pace, 0.5).whole(16)
    small = Allowance(pace, 0.2)
    assert small.whole(16) == pace.largest(pace.seconds(16), 10_000)
    assert small.tokens(100, 16, gap=False, whole=True) == 0, "nothing is saved yet"


def test_what_is_longer_than_a_whole_is_read_in_pieces_that_are_saved_for() -> None:
    pace = Priced(1, token_cost=0.05)
    allowance = Allowance(pace, 0.5)
    for _ in range(100):
        allowance.decode_step(16)
    assert allowance.tokens(10_000, 16, gap=False, whole=True) == allowance.tokens(10_000, 16, gap=False) > 0


def test_what_came_with_the_first_answers_is_read_at_once() -> None:
    pace = Priced(1, token_cost=0.05)
    allowance = Allowance(pace, 0.5)
    allowance.nothing_runs()
    allowance.decode_step(4)
    assert allowance.tokens(10_000, 4, gap=False) > 100


def test_a_batch_is_split_only_where_half_of_it_takes_less_time() -> None:
    weights_bound, compute_bound = Grouping(Priced(2, 0.0)), Grouping(Priced(2, 1.0))
    assert [weights_bound.groups(8), compute_bound.groups(8), compute_bound.groups(1)] == [1, 2, 1]


def test_on_one_rank_there_is_one_batch() -> None:
    assert Grouping(Priced(1, 1.0)).groups(32) == 1


def test_what_was_never_measured_is_tried() -> None:
    pace = measured(ranks=2, n8=0.05)
    grouping = Grouping(pace)
    assert grouping.groups(8) == 2
    for _ in range(3):
        pace.note(4, 0.052, "together")
    assert grouping.groups(8) == 1
