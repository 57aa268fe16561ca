"""Ports for the servers and rings that tests start."""

from __future__ import annotations

import itertools
import os
import random
import socket

HERE = "127.0.0.1"
BELOW_OUTGOING = range(10_001, 32_001)
"""Linux gives a connection that goes out a port from 32768 up, which a listener could not have any more."""
WORKERS = 4
"""Pytest's processes that may run at a time."""


def _of_this_process() -> range:
    """The ports that this process of pytest picks from: its own, so that no other picks the same."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS
    size = len(BELOW_OUTGOING) // WORKERS
    return BELOW_OUTGOING[number * size : (number + 1) * size]


_own = _of_this_process()
_start = random.randrange(0, len(_own), 2)
_turn = itertools.cycle([*_own[_start::2], *_own[_start % 2 : _start : 2]])


def free_port() -> int:
    """A port that nothing uses, nor the one below it, where nodes meet (`mlxserve.rendezvous`)."""
    return next(port for port in _turn if _is_free(port) and _is_free(port - 1))


def _is_free(port: int) -> bool:
    try:
        with socket.create_server((HERE, port)):
            return True
    except OSError:
        return False
