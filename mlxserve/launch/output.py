"""The ranks' output: whole lines, each with its rank in front."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import BinaryIO

COLOURS = (36, 33, 35, 32, 34, 31)
LONGEST = 65536
"""Bytes after which a line without an end is written all the same."""


class Output:
    """Writes the lines of one rank to this process's stdout and stderr."""

    def __init__(self, label: str, number: int) -> None:
        self._label = label
        self._colour = COLOURS[number % len(COLOURS)]

    async def copy(self, source: asyncio.StreamReader, target: BinaryIO) -> None:
        """Copy `source` to `target` until it ends; of a line that was redrawn (`\\r`) only the last state."""
        prefix = self._prefix(target)
        rest = b""
        while data := await source.read(LONGEST):
            *lines, rest = (rest + data).split(b"\n")
            lines, rest = (lines, rest) if len(rest) < LONGEST else ([*lines, rest], b"")
            self._write(target, prefix, lines)
        self._write(target, prefix, [rest] if rest else [])

    def _write(self, target: BinaryIO, prefix: bytes, lines: list[bytes]) -> None:
        drawn = (line.rstrip(b"\r").rpartition(b"\r")[2] for line in lines)
        target.write(b"".join(prefix + line + b"\n" for line in drawn))
        target.flush()

    def _prefix(self, target: BinaryIO) -> bytes:
        if target.isatty() and "NO_COLOR" not in os.environ:
            return f"\033[{self._colour}m[{self._label}]\033[0m ".encode()
        return f"[{self._label}] ".encode()


def say(sentence: str) -> None:
    """Write a line of the launcher's own."""
    print(f"mlxserve: {sentence}", file=sys.stderr, flush=True)
