"""The plan: what rank 0 decides for one tick, and all ranks carry out.

Rank s carries out the plan of tick t at tick t + s. So every rank works through the same sequence of cache operations
and items, and knows from the plans alone what every other rank puts into the tick's collective.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Logits = Literal["none", "last", "all"]
"""For which positions of an item rank 0 wants logits: none, each row's last token, or all."""


class Span(msgspec.Struct, frozen=True, array_like=True):
    """The first `count` tokens of the stored segment `key`."""

    key: str
    count: int


class Open(msgspec.Struct, frozen=True, tag="open"):
    """A new batch with `rows` sequences."""

    batch: int
    rows: int
    prefixes: list[list[Span]] = []
    """What each row begins with, segments one after another; without any, all rows are empty."""


class Join(msgspec.Struct, frozen=True, tag="join"):
    """The rows of `joining` go behind those of `batch`; if that does not exist, `joining` becomes it.

    They go into the room that `Keep` has left, as far as there is any.
    """

    batch: int
    joining: int


class Keep(msgspec.Struct, frozen=True, tag="keep"):
    """Rows of `batch` that stay, in their new order; with none the batch is gone.

    Behind them stays room for `spare` rows more: with as many as leave, nothing but rows that move has to be copied.
    """

    batch: int
    rows: list[int]
    spare: int = 0


class Move(msgspec.Struct, frozen=True, tag="move"):
    """Some rows of `batch` leave it and become the new batch `to`."""

    batch: int
    rows: list[int]
    to: int


class Trim(msgspec.Struct, frozen=True, tag="trim"):
    """The last `counts[row]` tokens of each row of `batch` are forgotten."""

    batch: int
    counts: list[int]


class Store(msgspec.Struct, frozen=True, tag="store"):
    """The tokens `start` to `stop` of a row of `batch` are kept as the segment `key`.

    Caches that cannot be cut are kept as they are, which must be after `stop` tokens: only what ends there can go on.
    """

    batch: int
    row: int
    start: int
    stop: int
    key: str


class Split(msgspec.Struct, frozen=True, tag="split"):
    """The first `at` tokens of the segment `key` become the segment `head`; the others keep the name."""

    key: str
    at: int
    head: str


class Drop(msgspec.Struct, frozen=True, tag="drop"):
    """The segment `key` is forgotten."""

    key: str


CacheOperation = Open | Join | Keep | Move | Trim | Store | Split | Drop


class Item(msgspec.Struct, frozen=True):
    """One pass through the layers: a chunk of prompts, or one decode step of a batch."""

    batch: int
    tokens: list[list[int]]
    """[rows, length]; rows of different lengths are filled up with zeros on the right. In a plan they are all zeros:
    the workers, who are given hidden states, go by the shape."""
    lengths: list[int]
    """The tokens that count in each row; empty if all do."""
    logits: Logits

    @property
    def rows(self) -> int:
        """How many sequences take part."""
        return len(self.tokens)

    @property
    def length(self) -> int:
        """Tokens a row, the filling included."""
        return len(self.tokens[0])

    @property
    def last_positions(self) -> list[int]:
        """Where each row's last token is."""
        return [length - 1 for length in self.lengths] or [self.length - 1] * self.rows

    def leaving_length(self) -> int:
        """Positions a row that the last rank hands to rank 0."""
        return {"none": 0, "last": 1, "all": self.length}[self.logits]

    def token_count(self) -> int:
        """Tokens that count, of all rows."""
        return sum(self.lengths) or self.rows * self.length


class Plan(msgspec.Struct, frozen=True, tag="plan"):
    """One tick: operations on the caches first, then the item that enters."""

    tick: int
    operations: list[CacheOperation]
    item: Item | None = None
    empty_ticks: int = 0
    """So many ticks without anything entering follow at once, without a plan of their own."""
