from __future__ import annotations

import pytest

from mlxserve.config import Settings
from mlxserve.engine.assembly import Assembly
from mlxserve.errors import UserError
from mlxserve.pipeline.footprint import Footprint
from mlxserve.pipeline.link import Loaded


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        (Settings(), "close other programs"),
        (Settings(kv_cache_bytes=1000), "--kv-cache-bytes 1000: that is too little"),
        (Settings(prefix_cache_bytes=5_000_000), "lower --prefix-cache-bytes, which is 5000000"),
    ],
)
def test_where_no_sequence_fits_the_reason_is_told(settings: Settings, named: str) -> None:
    loaded = Loaded(footprint=Footprint(token_bytes=100), free_bytes=20_000)
    with pytest.raises(UserError, match=named):
        Assembly(settings, [loaded]).ledger()


def test_a_second_model_on_rank_0_leaves_less_for_caches() -> None:
    loaded = Loaded(footprint=Footprint(token_bytes=100), free_bytes=100_000_000)
    alone = Assembly(Settings(), [loaded, loaded])
    beside = alone.beside(60_000_000)
    assert beside.ranks[0].free_bytes == 40_000_000
    assert beside.ranks[1] == loaded
    assert 0 < beside.ledger().longest < alone.ledger().longest
    with pytest.raises(UserError, match="close other programs"):
        alone.beside(200_000_000).ledger()


def test_what_is_not_known_stays_so_beside_a_second_model() -> None:
    assert Assembly(Settings(), [Loaded()]).beside(60_000_000).ranks[0].free_bytes == 0
