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
