from __future__ import annotations

import pytest

from tests.pipeline.group_program import run_on_ranks

PROGRAM = "tests.pipeline.relay_program"


@pytest.mark.parametrize("world_size", [2, 3])
def test_whatever_is_relayed_arrives_bit_by_bit(world_size: int) -> None:
    messages = run_on_ranks(PROGRAM, world_size, timeout=60)
    assert len(messages) == 5
    assert all(message["same"] for message in messages)
