"""What does not fit is refused before it is read, with what would."""

from __future__ import annotations

import pytest

from mlxserve.config import Place, Settings
from mlxserve.errors import UserError
from mlxserve.pipeline import loading
from mlxserve.pipeline.room import require_room

from .one_rank import build

GB = 10**9


def test_what_fits_is_let_in() -> None:
    require_room(0, 28, 19 * GB, 38 * GB, 16, 20 * GB)


def test_what_does_not_fit_is_told_with_what_would() -> None:
    with pytest.raises(UserError) as raised:
        require_room(1, 28, 20 * GB, 38 * GB, 16, 10 * GB)
    assert str(raised.value) == (
        "rank 1: the weights of its 28 layers take 20.0 GB, but 9.5 GB of memory can be used for them, so 10.5 GB are "
        "missing: at most 13 of its layers fit (--split); machines like this must be at least 4; quantized to 4 bits "
        "they would take about 5.6 GB."
    )


def test_what_is_quantized_already_is_not_told_to_be() -> None:
    with pytest.raises(UserError, match="not even one of its layers fits; machines") as raised:
        require_room(0, 1, 20 * GB, 20 * GB, 0, 10 * GB)
    assert "quantized" not in str(raised.value)


@pytest.mark.parametrize("rank", [0, 1])
def test_no_weights_are_read_that_do_not_fit(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    monkeypatch.setattr(loading, "room_bytes", lambda: 1000)
    with pytest.raises(UserError, match=f"rank {rank}: the weights of its . layers take .* MB are missing"):
        loading.load_model(build("qwen2"), Settings(place=Place(rank, 2)))
