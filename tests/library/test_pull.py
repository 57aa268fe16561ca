"""`mlxserve pull`: all of a model is here afterwards, and where is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlxserve.__main__ import run
from mlxserve.models.source import find_model
from tests.models.hub_server import HubServer
from tests.models.test_hub import SHARD


def test_a_repository_is_downloaded_wholly_and_its_place_told(
    hub: HubServer, dead: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pull", "org/tiny"]) == 0
    assert hub.fetched() == {SHARD.format(number) for number in range(1, 6)}
    dead()
    source = find_model("org/tiny", lambda text: None)
    assert source.is_whole
    said = capsys.readouterr()
    assert said.out.startswith("org/tiny: ")
    assert said.out.endswith(f" of weights in {source.folder}\n")
    assert f"{SHARD.format(5)} 100 %" in said.err


def test_what_is_here_is_told_too(sharded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pull", str(sharded)]) == 0
    assert capsys.readouterr().out.endswith(f" of weights in {sharded}\n")


def test_what_is_no_model_is_told(hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pull", "org/nothing"]) == 2
    assert "org/nothing is neither a file or folder here nor a repository" in capsys.readouterr().err
