"""The connection over which rank 0 gives one worker what that lacks of the model: what is said, and the bytes.

    rank 0               the worker
    Offer            →
                     ←   Wanted
    bytes, digest    →                  of each range that is wanted, in the same order
                     ←   Wanted
    …
                         closes it when it has all

It is a connection of its own, so that the control link's heartbeats and plans need not wait behind weights. Its bytes
are sent as they are: both ends know how many come next.
"""

from __future__ import annotations

import hashlib
import os
from multiprocessing.connection import Connection
from typing import TypeVar

import msgspec

from mlxserve.models.supply.digest import DIGEST_BYTES
from mlxserve.sockets import send_small_messages_at_once

PIECE_BYTES = 1 << 20
"""What is read, digested and sent at a time."""


class Range(msgspec.Struct, frozen=True, array_like=True):
    """`length` bytes of a file of the model's folder."""

    file: str
    start: int
    length: int


class Offer(msgspec.Struct, frozen=True):
    """What rank 0 has of the model."""

    identity: str
    """Another one for every other content of the files."""
    commit: str
    """Of the repository on the hub; empty where it is none."""
    whole: bool
    """Whether all weight files are there, not those of its own layers alone."""
    small: dict[str, int]
    """The bytes of each file besides the weights."""
    weights: dict[str, str]
    """A print of each weight file: the same for the same file; empty where it is not there."""


class Wanted(msgspec.Struct, frozen=True):
    """What the worker lacks."""

    ranges: list[Range]


Said = TypeVar("Said", Offer, Wanted)


class Line:
    """One end."""

    def __init__(self, connection: Connection) -> None:
        send_small_messages_at_once(connection)
        self._connection = connection

    def say(self, message: Offer | Wanted) -> None:
        """Raises OSError when the other end is gone."""
        content = msgspec.msgpack.encode(message)
        self._connection.send_bytes(hashlib.sha256(content).digest() + content)

    def hear(self, kind: type[Said]) -> Said:
        """The next message, waited for. Raises OSError or EOFError when the other end is gone, or it is damaged."""
        received = self._connection.recv_bytes()
        digest, content = received[:DIGEST_BYTES], received[DIGEST_BYTES:]
        if hashlib.sha256(content).digest() != digest:
            raise EOFError("a message arrived damaged")
        return msgspec.msgpack.decode(content, type=kind)

    def send(self, data: memoryview) -> None:
        """Raises OSError when the other end is gone."""
        while data:
            data = data[os.write(self._connection.fileno(), data) :]

    def receive_into(self, place: memoryview) -> None:
        """Fill `place`, bytes. Raises OSError or EOFError when the other end is gone."""
        while place:
            count = os.readv(self._connection.fileno(), [place])
            if not count:
                raise EOFError
            place = place[count:]

    def close(self) -> None:
        """Nothing more is wanted, or there is nobody who wants it."""
        self._connection.close()
