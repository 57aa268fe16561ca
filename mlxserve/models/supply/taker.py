"""A worker's part: it takes ranges of rank 0's files, each checked by its digest and asked for again if need be."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property

import mlx.core as mx

from mlxserve.errors import RankLost, UserError
from mlxserve.models.supply.digest import DIGEST_BYTES, Digesting
from mlxserve.models.supply.line import PIECE_BYTES, Line, Offer, Range, Wanted

logger = logging.getLogger("mlxserve.engine")

Store = Callable[[Range, mx.array, bytes], None]
"""Takes the bytes of a range, an array of uint8, and their digest."""


class Taker:
    """Raises RankLost wherever rank 0 is gone."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._digesting = Digesting()

    @cached_property
    def offer(self) -> Offer:
        """What rank 0 has, waited for until it knows its model."""
        with _unless_lost():
            return self._line.hear(Offer)

    def take(self, ranges: Sequence[Range], store: Store) -> None:
        """Hand each of `ranges` to `store`. Raises UserError if one arrives damaged twice."""
        damaged = self._attempt(ranges, store)
        if not damaged:
            return
        logger.warning("%s arrived damaged from rank 0, and is asked for again", _named(damaged))
        if again := self._attempt(damaged, store):
            raise UserError(
                f"{_named(again)} of the model arrived damaged from rank 0 twice: a cable, an adapter or the memory of "
                "one of the two machines changes what passes. Or copy the model to this machine."
            )

    def bytes_of(self, ranges: Sequence[Range]) -> list[bytes]:
        """The content of each of `ranges`, which are small. Raises UserError if one arrives damaged twice."""
        found: dict[Range, bytes] = {}
        self.take(ranges, lambda taken, content, digest: found.update({taken: bytes(_memory(content))}))
        return [found[each] for each in ranges]

    def close(self) -> None:
        """Nothing more is wanted."""
        self._line.close()
        self._digesting.close()

    def _attempt(self, ranges: Sequence[Range], store: Store) -> list[Range]:
        """Returns those that arrive damaged."""
        damaged = []
        with _unless_lost():
            self._line.say(Wanted(list(ranges)))
        for wanted in ranges:
            content = mx.zeros(wanted.length, mx.uint8)
            mx.eval(content)
            if digest := self._receive(_memory(content)):
                store(wanted, content, digest)
            else:
                damaged.append(wanted)
        return damaged

    def _receive(self, place: memoryview) -> bytes:
        """Fill `place`; the digest of what has come, empty if it is not that of what was sent."""
        sent = bytearray(DIGEST_BYTES)
        with _unless_lost():
            for start in range(0, len(place), PIECE_BYTES):
                piece = place[start : start + PIECE_BYTES]
                self._line.receive_into(piece)
                self._digesting.add(piece)
            self._line.receive_into(memoryview(sent))
        digest = self._digesting.take()
        return digest if digest == sent else b""


def _memory(array: mx.array) -> memoryview:
    """The bytes of `array`, of uint8 and evaluated, themselves: what is written there is in the array."""
    return memoryview(array)  # type: ignore[arg-type]


@contextmanager
def _unless_lost() -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError) as error:
        reason = str(error) or "the connection was closed"
        raise RankLost(f"rank 0 stopped sending what this rank lacks of the model: {reason}") from error


def _named(ranges: Sequence[Range]) -> str:
    files = sorted({each.file for each in ranges})
    return f"{len(ranges)} part{'s' if len(ranges) > 1 else ''} of {', '.join(files[:3])}"
