"""The ranks' output: whole lines, each with its rank in front."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import BinaryIO

from mlxserve import streams
from mlxserve.bars import Bars, told_in

COLOURS = (36, 33, 35, 32, 34, 31)
LONGEST = 65536
"""Bytes after which a line without an end is written all the same."""


class Lines:
    """Writes what one rank writes, line by line; of a line that was redrawn (`\\r`) only the last state."""

    def __init__(self, target: BinaryIO, label: str, number: int, bars: Bars) -> None:
        """`bars` are drawn below, on the same terminal perhaps."""
        self._target = target
        self._bars = bars
        self._rest = b""
        self._plain_prefix = self._prefix = f"[{label}] ".encode()
        if target.isatty() and "NO_COLOR" not in os.environ:
            self._prefix = f"\033[{COLOURS[number % len(COLOURS)]}m[{label}]\033[0m ".encode()

    def feed(self, data: bytes) -> None:
        """Take in more output and write the lines that it completes."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._write(lines)
        if len(self._rest) > LONGEST:
            self.close()

    def close(self) -> None:
        """Write what there is of a last line without an end."""
        rest, self._rest = self._rest, b""
        self._write([rest] if rest else [])

    def _write(self, lines: list[bytes]) -> None:
        drawn = [line.rstrip(b"\r").rpartition(b"\r")[2] for line in lines if not self._tells(line)]
        if not drawn:
            return
        try:
            with self._bars.aside():
                self._target.write(b"".join(self._labelled(line) + b"\n" for line in drawn))
                self._target.flush()
        except BrokenPipeError:
            streams.drop(self._target)  # nobody reads it any more, but the rank goes on
        except OSError:
            pass  # a full disk may have room for later lines

    def _tells(self, line: bytes) -> bool:
        """Whether `line` is about a bar, which is then drawn."""
        if bar := told_in(line):
            self._bars.take(bar)
        return bar is not None

    def _labelled(self, line: bytes) -> bytes:
        """`line` with its rank, which it may name itself; objects for programs do."""
        if line.startswith(b'{"'):
            return line
        return self._prefix + line.removeprefix(self._plain_prefix)


def say(sentence: str) -> None:
    """Write a line of the launcher's own."""
    draw(f"mlxserve: {sentence}\n")


def draw(text: str) -> None:
    """Write to stderr; the launcher goes on where that cannot be written."""
    with contextlib.suppress(OSError):
        print(end=text, file=sys.stderr, flush=True)
