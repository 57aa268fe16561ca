"""What `--parallel auto` takes: what is measured to be faster, where the model, memory and the flags leave a choice."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from mlxserve.config import Parallel, Settings
from mlxserve.engine import parallel
from mlxserve.engine.parallel import choose, compare
from mlxserve.pipeline.selftest import BRIEF_SIZES, RelayFindings
from tests.pipeline.one_rank import build

LAYERS = 4


@pytest.fixture(autouse=True)
def sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums of a group that is not there."""
    monkeypatch.setattr(mx.distributed, "all_sum", lambda x, group: x)


class Two:
    """Stands for a group of which this process is the first of two ranks."""

    def size(self) -> int:
        return 2

    def rank(self) -> int:
        return 0


def findings(seconds: float) -> list[RelayFindings]:
    """Of ranks for whom an exchange of any size took so long."""
    times = dict.fromkeys(BRIEF_SIZES, seconds)
    return [RelayFindings({}, {"all_sum": times, "all_gather": times})] * 2


def model(model_type: str) -> nn.Module:
    """One whose layers take long enough to be timed."""
    return build(model_type, num_hidden_layers=LAYERS, hidden_size=512, intermediate_size=2048)


def chosen(seconds: float, settings: Settings | None = None, model_type: str = "qwen3") -> parallel.Choice:
    group: Any = Two()
    return choose(settings or Settings(parallel="auto"), group, findings(seconds), lambda: model(model_type))


@pytest.mark.parametrize(("seconds", "mode"), [(1e-9, "tensor"), (0.1, "pipeline")])
def test_tensors_are_shared_out_where_sums_cost_less_than_they_save(seconds: float, mode: Parallel) -> None:
    choice = chosen(seconds)
    assert choice.mode == mode
    assert f"{LAYERS} layers and {2 * LAYERS} sums take" in choice.reason


@pytest.mark.parametrize("layers", [1, 2])
def test_models_of_few_layers_are_chosen_for_too(layers: int) -> None:
    group: Any = Two()
    for _ in range(4):  # which of two equal passes is timed as the longer one is chance
        choice = choose(
            Settings(parallel="auto"), group, findings(0.1), lambda: build("qwen3", num_hidden_layers=layers)
        )
        assert choice.mode == "pipeline"
        assert f"{layers} layers and {2 * layers} sums take" in choice.reason


def test_a_small_gain_is_not_worth_other_rounding() -> None:
    slower, hardly_faster, faster = (compare(10, 1.0, 2, 20, seconds) for seconds in (0.3, 0.25, 0.15))
    assert (slower.mode, hardly_faster.mode, faster.mode) == ("pipeline", "pipeline", "tensor")


def test_a_model_that_cannot_be_cut_is_split_by_layers() -> None:
    choice = chosen(1e-9, model_type="gemma2")
    assert choice.mode == "pipeline"
    assert choice.reason.endswith("on 2 ranks: mlx-lm cannot cut the layers of this type")


def test_layers_that_are_named_for_each_rank_are_not_cut() -> None:
    assert chosen(1e-9, Settings(parallel="auto", split=(1, 3))).mode == "pipeline"


def test_a_share_that_does_not_fit_into_memory_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "room_bytes", lambda: 1_000_000)
    choice = chosen(1e-9)
    assert choice.mode == "pipeline"
    assert "more than rank 0 has" in choice.reason


def test_the_mode_that_was_asked_for_is_taken_and_check_tells_what_auto_would() -> None:
    assert chosen(1e-9, Settings(parallel="pipeline")) == parallel.Choice("pipeline", "as --parallel says")
    told = chosen(1e-9, Settings(parallel="pipeline", task="check"))
    assert told.mode == "pipeline"
    assert told.reason.startswith("as --parallel says; auto would take tensor: a token takes")


def test_one_rank_has_all_layers() -> None:
    assert choose(Settings(parallel="tensor"), None, [], lambda: model("qwen3")).mode == "pipeline"
