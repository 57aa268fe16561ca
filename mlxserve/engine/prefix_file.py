"""The file on rank 0 that keeps the index of stored prefixes over a restart."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from mlxserve.engine.prefix import PrefixIndex

log = logging.getLogger(__name__)

NAME = "index.msgpack"
LONGEST_UNSAVED = 30.0
"""Seconds after which changes are saved although the engine is busy."""


class PrefixFile:
    """The index in the folder of rank 0's segments."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._saved = 0
        self._saved_at = time.monotonic()

    def load(self) -> bytes:
        """What was saved last; nothing if there is no such file, or it cannot be read."""
        try:
            return self._path.read_bytes()
        except OSError:
            return b""

    def keep(self, index: PrefixIndex, idle: bool) -> None:
        """Save `index` if it has changed and the engine is idle, or has been busy for long."""
        if index.changes == self._saved or not (idle or time.monotonic() - self._saved_at > LONGEST_UNSAVED):
            return
        self._saved, self._saved_at = index.changes, time.monotonic()
        try:
            self._replace(index.state())
        except OSError as error:
            log.warning("the index of stored prefixes cannot be saved in %s: %s", self._path.parent, error.strerror)

    def _replace(self, state: bytes) -> None:
        """At once: whoever reads the file finds the old state or the new one."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        new = self._path.with_suffix(".new")
        new.write_bytes(state)
        os.replace(new, self._path)
