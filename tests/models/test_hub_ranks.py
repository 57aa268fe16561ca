"""What the ranks of a split model fetch from the hub, and that it is enough."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx

from mlxserve.config import Place, Settings
from mlxserve.models.progress import Report
from mlxserve.models.source import find_model
from mlxserve.pipeline.loading import load_source
from mlxserve.pipeline.plan import Item, Open

from .hub_server import HubServer
from .test_hub import SHARD


def test_each_rank_fetches_the_files_of_its_own_layers_and_together_they_are_the_model(
    hub: HubServer, sharded: Path, report: Report
) -> None:
    second = load_source(find_model("org/tiny", report), _settings(1), report).stage
    assert hub.fetched() == {SHARD.format(4), SHARD.format(5)}
    first = load_source(find_model("org/tiny", report), _settings(0), report).stage
    assert hub.fetched() == {SHARD.format(number) for number in range(1, 6)}
    item = Item(1, [[3, 1, 4, 1, 5]], [], "all")
    hidden: list[mx.array] = []
    for stage in (first, second):
        stage.apply(Open(1, 1))
        hidden = stage.forward(item, hidden)
    whole = find_model(str(sharded), report).load("float32")
    assert mx.array_equal(first.finish(hidden, item), whole(mx.array(item.tokens)))


def _settings(rank: int) -> Settings:
    return Settings(place=Place(rank, 2), dtype="float32", split=(2, 2))
