"""The load: conversations, so many at a time.

It shares cores with a server on the same machine. So its threads only note what came when, and nothing is read before
the clock has stopped.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

import msgspec

from mlxserve.bench.answer import Answer, read
from mlxserve.bench.server import Exchange, Server

Body = bytes
Conversation = list[Body]
"""Requests that are sent one after the other: each when the one before it is answered."""


class Run(msgspec.Struct, frozen=True):
    """The answers of one measurement; `whole` unless it was interrupted."""

    answers: list[Answer]
    whole: bool = True


def run(server: Server, conversations: Iterable[Conversation], streams: int) -> Run:
    """Hold all `conversations` with `server`, `streams` at a time; Ctrl-C ends it with what there is."""
    waiting, lock = iter(list(conversations)), threading.Lock()
    exchanges: list[Exchange] = []
    threads = [
        threading.Thread(target=_hold, args=(server, waiting, lock, exchanges), daemon=True) for _ in range(streams)
    ]
    whole = True
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        whole = False
    return Run([read(exchange) for exchange in list(exchanges)], whole)


def _hold(server: Server, waiting: Iterator[Conversation], lock: threading.Lock, exchanges: list[Exchange]) -> None:
    while True:
        with lock:
            conversation = next(waiting, None)
        if conversation is None:
            return
        for body in conversation:
            exchanges.append(server.ask(body))
