"""The index of stored prefixes, written down from time to time, to be there after a restart."""

from __future__ import annotations

import time
from collections.abc import Callable

from mlxserve.engine.prefix import PrefixIndex

LONGEST_UNWRITTEN = 30.0
"""Seconds after which changes are written down although the engine is busy."""


class PrefixRecord:
    """Writes the state of `index` by `write`, when it has changed and there is time."""

    def __init__(self, index: PrefixIndex, write: Callable[[bytes], None]) -> None:
        self._index = index
        self._write = write
        self._written = index.changes
        self._written_at = time.monotonic()
        self._splits = index.splits

    def keep(self, idle: bool) -> None:
        """To be called after each step, and with `idle` when nothing is left to do.

        A split is written down at once: by an older record what begins with a split segment would be lost.
        """
        if self._index.changes == self._written:
            return
        if idle or self._index.splits > self._splits or time.monotonic() - self._written_at > LONGEST_UNWRITTEN:
            self._written, self._written_at = self._index.changes, time.monotonic()
            self._splits = self._index.splits
            self._write(self._index.state())
