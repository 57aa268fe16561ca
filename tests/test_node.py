"""What a node makes of signals."""

from __future__ import annotations

import asyncio

import pytest

from mlxserve.bars import NoDisplay
from mlxserve.config import Settings
from mlxserve.engine.client import EngineClient
from mlxserve.node import Node

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    """Rank 0's, whose answers do not come to an end."""

    async def never(client: EngineClient) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(EngineClient, "quiet", never)
    return Node(Settings(model="demo", port=0), NoDisplay())


async def test_the_first_sigterm_lets_answers_go_on_and_the_second_ends_them(node: Node) -> None:
    node._drain_or_end()
    await asyncio.sleep(0)
    assert not node._ending.is_set()
    node._drain_or_end()
    assert node._ending.is_set()


async def test_a_sigterm_that_comes_after_a_workers_is_the_first_all_the_same(node: Node) -> None:
    node._begin_draining("rank 1 was asked to end")
    node._drain_or_end()
    await asyncio.sleep(0)
    assert not node._ending.is_set()
