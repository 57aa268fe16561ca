"""Settings of connections between ranks."""

from __future__ import annotations

import socket
from multiprocessing.connection import Connection


def send_small_messages_at_once(connection: Connection) -> None:
    """Turn Nagle's algorithm off: a message must not wait for the acknowledgement of the one before it."""
    with socket.socket(fileno=socket.dup(connection.fileno())) as duplicate:
        if duplicate.family in (socket.AF_INET, socket.AF_INET6):
            duplicate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
