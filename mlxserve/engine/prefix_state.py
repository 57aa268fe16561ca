"""The tree of stored prefixes as bytes, to outlive a restart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from mlxserve.engine.prefix_node import Node, Tokens, tokens_of

_DIGEST_SIZE = 16


class StoredSegment(msgspec.Struct, frozen=True, array_like=True):
    """A node as it is written down."""

    key: str
    parent: str
    """The key of the node before it; empty for the first tokens of sequences."""
    tokens: bytes
    snapshot: bool

    def unpacked(self) -> Tokens:
        """Its tokens."""
        tokens = tokens_of([])
        tokens.frombytes(self.tokens)
        return tokens


class _Tree(msgspec.Struct, frozen=True):
    segments: list[StoredSegment]


def encode(nodes: Iterable[Node]) -> bytes:
    """`nodes`, in their order, with a checksum."""
    segments = [
        StoredSegment(node.key, node.parent.key if node.parent else "", node.tokens.tobytes(), node.snapshot)
        for node in nodes
    ]
    body = msgspec.msgpack.encode(_Tree(segments))
    return _digest(body) + body


def decode(data: bytes) -> list[StoredSegment]:
    """What was encoded; nothing if it is damaged."""
    checksum, body = data[:_DIGEST_SIZE], data[_DIGEST_SIZE:]
    if checksum != _digest(body):
        return []
    try:
        return msgspec.msgpack.decode(body, type=_Tree).segments
    except msgspec.MsgspecError:  # written by another version
        return []


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST_SIZE).digest()
