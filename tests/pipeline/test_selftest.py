"""What the ranks found when they exchanged patterns is judged."""

from __future__ import annotations

import pytest

from mlxserve.errors import DamagedData
from mlxserve.pipeline.selftest import RelayFindings, require_exact

EXACT = RelayFindings({"all_sum": {8: True, 16384: True}, "all_gather": {8: True, 16384: True}}, {})


def test_a_pattern_that_arrived_changed_is_told_with_its_rank_size_and_collective() -> None:
    changed = RelayFindings({"all_sum": {8: True, 16384: True}, "all_gather": {8: True, 16384: False}}, {})
    require_exact([EXACT, EXACT])
    with pytest.raises(DamagedData, match="what rank 1 received of 16 KiB by all_gather differs from what was sent"):
        require_exact([EXACT, changed])
