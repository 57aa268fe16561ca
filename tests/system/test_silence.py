"""An engine process that stands still is not called healthy: its own node ends it, and starts another."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.system.server import BareRank, Server, start, write_hostfile
from tests.system.test_chat import ask_streamed

Own = Callable[[Server], Server]
NOTICED = 12.0
"""Seconds: the bound on silence, and what of it may have begun already."""

NOTICED_BY_OTHERS = 8.0


def freeze_engine(server: Server) -> int:
    (engine,) = server.pids_of("engine")
    os.kill(engine, signal.SIGSTOP)
    return engine


def test_an_idle_engine_that_is_frozen_is_replaced(own: Own) -> None:
    server = own(start(1))
    well = server.wait_until("healthy")
    frozen = freeze_engine(server)
    ill = server.wait_until("recovering", NOTICED)
    assert "the engine process has said nothing for 8 s" in ill["reason"]
    assert ill["since"] > well["since"]
    assert server.wait_until("healthy")["since"] > ill["since"]
    assert frozen not in server.pids
    assert ask_streamed(server) == "The capital of France is Paris."


@pytest.mark.parametrize("victim", [0, 1])
def test_a_frozen_engine_does_not_keep_the_group_from_forming_again(own: Own, tmp_path: Path, victim: int) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    ranks = [own(BareRank(rank, hostfile, port)) for rank in range(2)]
    ranks[0].wait_until("healthy")
    frozen = freeze_engine(ranks[victim])
    ranks[0].wait_until("recovering", NOTICED if victim == 0 else NOTICED_BY_OTHERS)
    assert victim == 0 or "not a word" in ranks[0].output
    ranks[0].wait_until("healthy")
    assert frozen not in ranks[victim].pids
    assert ask_streamed(ranks[0]) == "The capital of France is Paris."
