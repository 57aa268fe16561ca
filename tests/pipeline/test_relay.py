from __future__ import annotations

import mlx.core as mx
import pytest

from mlxserve.pipeline.relay import Relay, Times
from tests.pipeline.group_program import run_on_ranks

PROGRAM = "tests.pipeline.relay_program"


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_whatever_is_relayed_by_either_collective_arrives_bit_by_bit(world_size: int) -> None:
    messages = run_on_ranks(PROGRAM, world_size, timeout=60)
    assert len(messages) == 2 * 8 * 3
    assert all(message["same"] for message in messages)


def relay_that_took(times: Times) -> Relay:
    relay = Relay(mx.distributed.init(), waits_asleep=True)
    relay.prefer(times)
    return relay


def test_each_size_goes_by_the_collective_that_was_faster_for_it() -> None:
    relay = relay_that_took({"all_sum": {8: 3.0, 8_000: 4.0}, "all_gather": {8: 1.0, 8_000: 9.0}})
    ways = [relay.way([words]) for words in (1, 200, 900, 100_000)]
    assert ways == ["all_gather", "all_gather", "all_sum", "all_sum"]


def test_where_one_rank_gives_much_a_gathering_of_equal_shares_counts_for_all_of_them() -> None:
    line = {8: 1.0, 8_000: 2.0}
    relay = relay_that_took({"all_sum": line, "all_gather": {size: 0.9 * seconds for size, seconds in line.items()}})
    assert relay.way([900, 900, 900]) == "all_gather"
    assert relay.way([900, 0, 0]) == "all_sum"


def test_before_anything_was_timed_the_sum_is_taken() -> None:
    assert relay_that_took({}).way([5, 0]) == "all_sum"


def test_what_was_chosen_for_ever_new_sizes_does_not_pile_up() -> None:
    relay = relay_that_took({"all_sum": {8: 1.0, 8_000: 1.0}, "all_gather": {8: 2.0, 8_000: 2.0}})
    assert {relay.way([words, 7]) for words in range(10_000)} == {"all_sum"}
    assert len(relay._chosen) < 5000
