"""Lines between rank 0 and a worker, in one process, and what may go wrong with what passes them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from mlxserve.models.folder import ModelSource
from mlxserve.models.supply.giver import Giver
from mlxserve.models.supply.line import Line
from mlxserve.models.supply.taker import Taker

Change = Callable[[int, bytearray], bool]
"""May change bytes that rank 0 has sent, told how many came before; false: the connection breaks before them."""


def taker_of(source: ModelSource, failed: Callable[[str], None] = print, change: Change | None = None) -> Taker:
    """A worker's end of a line to a rank 0 that has `source`."""
    given, taken = _pair()
    Giver(source, lambda text: None, failed).start([Line(given)])
    return Taker(Line(_through(taken, change) if change else taken))


def _pair() -> tuple[Connection, Connection]:
    one, other = socket.socketpair()
    return Connection(one.detach()), Connection(other.detach())


def _through(inner: Connection, change: Change) -> Connection:
    near, far = _pair()
    threading.Thread(target=_pass_on, args=(near, inner, lambda before, data: True), daemon=True).start()
    threading.Thread(target=_pass_on, args=(inner, near, change), daemon=True).start()
    return far


def _pass_on(source: Connection, target: Connection, change: Change) -> None:
    before = 0
    while data := bytearray(os.read(source.fileno(), 1 << 16)):
        if not change(before, data):
            break
        before += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(target.fileno(), rest) :]
    for connection in (source, target):
        socket.socket(fileno=os.dup(connection.fileno())).shutdown(socket.SHUT_RDWR)
