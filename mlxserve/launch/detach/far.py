"""`mlxserve detached`: carries out one order of the launcher on this host."""

from __future__ import annotations

import http
import http.client
import os
import select
import socket
import ssl
import sys
import time
from pathlib import Path

import msgspec

from mlxserve.errors import MlxserveError, UserError
from mlxserve.launch.detach.orders import Begin, End
from mlxserve.launch.detach.rank import DetachedRank

ENDED = 130
_TICK = 0.2
_ASKING_SECONDS = 1.0


def main() -> int:
    """Read the order and carry it out; returns the exit code. Raises UserError."""
    with open(0, "rb", buffering=0, closefd=False) as orders:
        order = msgspec.json.decode(orders.readline(), type=Begin | End)
    rank = DetachedRank(order.name)
    if isinstance(order, End):
        print("ended" if rank.end(order.drain_seconds) else "does not run", flush=True)
        return 0
    _require_free(order, rank)
    begun = rank.begin(order)
    found = "process" if rank.was_begun_here else "runs already: process"
    print(f"{found} {begun.pid}, log {rank.log}", flush=True)
    return _follow(rank, order)


def _follow(rank: DetachedRank, order: Begin) -> int:
    """Repeat what the rank says until it serves (0), ends (its code), or the launcher wants it to end or is gone."""
    log = _Log(rank.log, from_end=not rank.was_begun_here)
    asked = 0.0
    while True:
        code = rank.exit_code()
        log.repeat()
        if code is not None:
            return code or MlxserveError.exit_code
        if order.address and not order.for_good and time.monotonic() - asked > _ASKING_SECONDS:
            if _is_healthy(order):
                return 0
            asked = time.monotonic()
        if select.select([0], [], [], _TICK)[0]:
            return _leave(rank)


def _leave(rank: DetachedRank) -> int:
    """The launcher has said that all is to end, or is gone: then the rank goes on."""
    with open(0, "rb", buffering=0, closefd=False) as orders:
        is_to_end = bool(orders.readline())
    if is_to_end and rank.was_begun_here:
        rank.end()
    return ENDED


def _require_free(order: Begin, rank: DetachedRank) -> None:
    """Raise UserError where something else listens where this rank is to serve: it would be taken for it."""
    if not order.address or rank.running():
        return
    host, _, port = order.address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _ASKING_SECONDS).close()
    except OSError:
        return
    raise UserError(f"something listens at {order.address} already: end it, or choose another --port")


def _is_healthy(order: Begin) -> bool:
    """Whether /health says so. The certificate is not looked at: it is for other names than this."""
    host, _, port = order.address.rpartition(":")
    if order.has_tls:
        context = ssl._create_unverified_context()
        asking: http.client.HTTPConnection = http.client.HTTPSConnection(
            host, int(port), timeout=_ASKING_SECONDS, context=context
        )
    else:
        asking = http.client.HTTPConnection(host, int(port), timeout=_ASKING_SECONDS)
    try:
        asking.request("GET", "/health", headers={"Host": "localhost"})
        return asking.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asking.close()


class _Log:
    """What was written to a file since the last look."""

    def __init__(self, file: Path, from_end: bool) -> None:
        self._file = file.open("rb")
        self._file.seek(0, os.SEEK_END if from_end else os.SEEK_SET)

    def repeat(self) -> None:
        """Write it to standard output."""
        if said := self._file.read():
            sys.stdout.buffer.write(said)
            sys.stdout.buffer.flush()
