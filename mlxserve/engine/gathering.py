"""Requests that come together after idleness: prompts that are read together are read faster than one after another."""

from __future__ import annotations

import time
from collections.abc import Iterator
from queue import Empty
from typing import Protocol, TypeVar

T = TypeVar("T", covariant=True)

_GAP = 0.01
"""Seconds for which a request that comes after idleness waits for others: a client's connections take some each …"""
_LONG_GAP = 0.015
"""… where others are likely to follow: some have, or fewer have come than answers ended just before."""
_LAST_GAP = 0.004
"""… where as many have come as answers ended just before."""
_LONGEST = 0.1
"""Seconds that the first waits at most."""
_SUCCESSION = 0.1
"""Seconds after the end of an answer in which whoever asked for it may be expected to ask on."""


class Orders(Protocol[T]):
    """A queue, as `queue.SimpleQueue` is one."""

    def get(self, *, timeout: float) -> T:
        """The next order. Raises `queue.Empty` after `timeout` seconds."""
        ...


def coming_together(orders: Orders[T], ended: int, seconds: float) -> Iterator[T]:
    """What follows the first order after idleness closely.

    So many answers `ended` as the idleness began, `seconds` before that order came: as in a batch job, whose next
    questions come as its answers end.
    """
    expected = ended if seconds < _SUCCESSION else 0
    came, end = 1, time.monotonic() + _LONGEST
    while (left := end - time.monotonic()) > 0:
        try:
            yield orders.get(timeout=min(left, _gap(came, expected)))
        except Empty:
            return
        came += 1


def _gap(came: int, expected: int) -> float:
    if came == expected:
        return _LAST_GAP
    return _LONG_GAP if came > 1 or expected else _GAP
