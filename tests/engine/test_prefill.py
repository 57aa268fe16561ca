from __future__ import annotations

import pytest

from mlxserve.engine.prefill import CHUNK_STEP, FEWEST_CHUNK_TOKENS, MOST_CHUNK_TOKENS, chunk_size, longest_chunk
from tests.engine.tiny import Priced, cut


class Counted(Priced):
    """A known pace that counts how often it is asked."""

    asked = 0

    def tick(self, tokens: int, together: bool = False) -> float:
        self.asked += 1
        return super().tick(tokens, together)


@pytest.mark.parametrize("unread", [40, 600, 4000, 30_000])
@pytest.mark.parametrize("token_cost", [0.001, 0.01, 0.05, 0.1])
@pytest.mark.parametrize("ranks", [2, 3])
def test_with_several_ranks_chunks_are_about_as_long_as_is_quickest(unread: int, token_cost: float, ranks: int) -> None:
    pace = Priced(ranks, token_cost)
    bound = min(unread, longest_chunk(pace, 0))

    def seconds(size: int) -> float:
        sizes = cut(unread, size, bound, ranks)
        return sum(map(pace.tick, sizes)) + (ranks - 1) * pace.tick(sizes[-1])

    chosen = chunk_size(pace, unread, 0, 0)
    assert 1 <= chosen <= bound
    assert seconds(chosen) < 1.05 * min(map(seconds, range(min(unread, FEWEST_CHUNK_TOKENS), bound + 1, 8)))


@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("chunks", range(1, 9))
def test_prompts_of_all_lengths_are_read_in_chunks_of_few_lengths(ranks: int, chunks: int) -> None:
    lengths = set[int]()
    for unread in range(chunks, 1200):
        *before, last = cut(unread, -(-unread // chunks), 1200, ranks)
        assert len(before) < chunks
        assert sum(before) + last == unread
        lengths.update(length for length in before if length > CHUNK_STEP)
    assert all(length % CHUNK_STEP == 0 for length in lengths)


def test_however_long_a_prompt_is_its_chunks_are_chosen_at_once() -> None:
    pace = Counted(2, 0.001)
    chunk_size(pace, 1 << 20, 0, 0)
    assert pace.asked < 200


@pytest.mark.parametrize("ranks", [1, 2])
def test_chunks_are_no_longer_than_was_set(ranks: int) -> None:
    pace = Priced(ranks, 0.01)
    assert all(chunk_size(pace, unread, 0, most) <= most for unread in (1, 33, 600) for most in (1, 7, 32, 100))


@pytest.mark.parametrize(("unread", "chunks"), [(1.0, 1), (1.4, 1), (1.6, 2), (2.4, 2), (2.6, 3), (12.0, 12)])
def test_on_one_rank_a_chunk_is_rather_longer_than_one_more_is_read(unread: float, chunks: int) -> None:
    pace = Priced(1, 0.1)
    tokens = round(unread * longest_chunk(pace, 0))
    assert -(-tokens // chunk_size(pace, tokens, 0, 0)) == chunks


def test_on_one_rank_a_chunk_has_no_more_tokens_than_memory_is_meant_for() -> None:
    pace = Priced(1, 1e-6)
    assert chunk_size(pace, 3000, 0, 0) == 1500 <= MOST_CHUNK_TOKENS
