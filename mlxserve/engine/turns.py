"""Whose turn it is: those that wait, in an order that is fair to clients, however many each of them has."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from operator import attrgetter

from mlxserve.engine.sequence import Sequence

BEFORE_ALL = -1


@dataclass
class Place:
    """Where in the queue a sequence waits."""

    turn: int
    arrival: int
    sequence: Sequence


_order = attrgetter("turn", "arrival")


class Turns:
    """A queue by start-time fair queueing (Goyal, Vin and Cheng, 1996), in which each sequence costs one turn.

    A sequence's turn is the one after its client's last, or the present one where that is later: so a client that has
    had nothing to ask gains nothing by that, and one with a thousand prompts is served in turn with the others.
    """

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._arrivals = count()
        self._present = 0
        """The latest turn that anybody was taken at."""
        self._last: dict[str, int] = {}
        """The last turn of each client, where that is not past."""

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Sequence]:
        """From the next to the last; nothing may be added or go meanwhile."""
        return (place.sequence for place in self._places)

    def add(self, sequence: Sequence) -> None:
        """Give a newly arrived sequence its turn."""
        turn = max(self._present, self._last.get(sequence.client, BEFORE_ALL) + 1)
        self._last[sequence.client] = turn
        insort(self._places, Place(turn, next(self._arrivals), sequence), key=_order)

    def put_back(self, sequence: Sequence) -> None:
        """It has had its turn: it goes before all others."""
        insort(self._places, Place(BEFORE_ALL, -next(self._arrivals), sequence), key=_order)

    def take(self, sequence: Sequence) -> None:
        """It is served now, wherever in the queue it is."""
        place = self._leave(sequence)
        if place is not None:
            self._present = max(self._present, place.turn)
            self._forget()

    def remove(self, sequence: Sequence) -> None:
        """It is served no more: its client's later ones move up, as if it had never come."""
        place = self._leave(sequence)
        if place is None or place.turn == BEFORE_ALL:
            return
        free = place.turn
        for later in self._places:
            if later.sequence.client == sequence.client and later.turn > free:
                later.turn, free = free, later.turn
        self._places.sort(key=_order)
        if self._last.get(sequence.client) == free:
            self._last[sequence.client] = free - 1
        self._forget()

    def _leave(self, sequence: Sequence) -> Place | None:
        for index, place in enumerate(self._places):
            if place.sequence is sequence:
                return self._places.pop(index)
        return None

    def _forget(self) -> None:
        """Clients whose last turn is past are like new ones; where nobody waits, all are."""
        kept = self._last.items() if self._places else ()
        self._last = {client: turn for client, turn in kept if turn >= self._present}
