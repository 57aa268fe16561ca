"""A node of the tree of stored prefixes: tokens that follow those of its parent, and what keeping them costs a rank."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from mlxserve.pipeline.footprint import Footprint

Tokens: TypeAlias = "array[int]"

_TYPE = "I"


def tokens_of(tokens: Sequence[int]) -> Tokens:
    """`tokens` in four bytes each."""
    return array(_TYPE, tokens)


def key_of(tokens: Tokens, passage: bool = False) -> str:
    """What the segment that ends after `tokens` is called, by all ranks and after a restart: 32 hexadecimal digits.

    A `passage`, from whose end nothing can go on, has another name than what takes its place when something can.
    """
    return hashlib.blake2b(tokens, digest_size=16, person=b"passage" if passage else b"").hexdigest()


def common_length(one: Tokens | list[int], other: Tokens | list[int]) -> int:
    """How many tokens both begin with."""
    length = min(len(one), len(other))
    if one[:length] == other[:length]:
        return length
    return next(i for i, (mine, theirs) in enumerate(zip(one, other, strict=False)) if mine != theirs)


@dataclass(eq=False)
class Node:
    """A stored segment: the tokens `start` to `end` of every sequence that begins as this one does."""

    key: str
    tokens: Tokens
    start: int
    parent: Node | None
    snapshot: bool
    """Whether a sequence can go on from its end where caches cannot be cut."""
    children: dict[int, Node] = field(default_factory=dict)
    """By their first token."""
    pins: int = 0

    @property
    def end(self) -> int:
        """Tokens of a sequence up to the end of this segment."""
        return self.start + len(self.tokens)


def segment_bytes(footprint: Footprint, start: int, end: int, snapshot: bool) -> int:
    """What the tokens `start` to `end` take on a rank, with the caches that cannot be cut if there is a snapshot."""
    whole = footprint.bytes_of(end) - footprint.token_bytes * end if snapshot else 0
    return whole + footprint.token_bytes * (end - start)
