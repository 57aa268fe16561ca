from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from mlxserve.models.source import ModelSource, find_model

from .hub_server import HubServer
from .tiny import tiny_config, tiny_weights, write_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Caches of its own for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "cache" / "mlxserve"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("demo")))
        return find_model("demo", print)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """A tiny qwen2 in five files: one for each of four layers, one for the rest."""
    config = tiny_config("qwen2")
    return write_folder(tmp_path / "origin", config, tiny_weights(config))


@pytest.fixture
def hub(sharded: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    refusals = {"org/gated": (403, "GatedRepo"), "org/broken": (500, "")}
    with HubServer({"org/tiny": sharded}, refusals) as server:
        use_endpoint(monkeypatch, server.address)
        yield server


def use_endpoint(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """What HF_ENDPOINT does to huggingface_hub when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def dead(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the endpoint one that refuses every connection."""
    return lambda: use_endpoint(monkeypatch, "http://127.0.0.1:9")


@pytest.fixture
def lines() -> list[str]:
    """What was reported."""
    return []


@pytest.fixture
def report(lines: list[str]) -> Callable[[str], None]:
    return lines.append
