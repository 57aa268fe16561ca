"""Progress bars at the bottom of a terminal, below whatever else is written to it."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from collections.abc import Iterator
from typing import Protocol, TextIO

import msgspec

MARK = b"\x1e"
"""Begins a line that tells of a bar: from a rank to the launcher that draws it."""
PERCENT = re.compile(r"(.*) (\d{1,3}) %")
WIDTH = 24
FULL, EMPTY = "━", "─"


class Bar(msgspec.Struct, frozen=True, array_like=True):
    """What goes on where, and how far it is, of 100."""

    name: str
    text: str
    percent: int


class Display(Protocol):
    """Where progress is shown other than in the log."""

    def show(self, name: str, sentence: str) -> bool:
        """Show how far `name` is, by the percentage that ends `sentence`; without one, nothing of it any more.

        Returns whether it is shown.
        """
        ...

    def clear(self) -> None:
        """All is done."""
        ...

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """While something else is written to the same terminal."""
        ...


class NoDisplay:
    """Where there is no terminal: the log tells."""

    def show(self, name: str, sentence: str) -> bool:
        """See Display."""
        return False

    def clear(self) -> None:
        """See Display."""

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """See Display."""
        return contextlib.nullcontext()


class Bars:
    """Draws them."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._bars: dict[str, Bar] = {}
        self._drawn = 0

    def show(self, name: str, sentence: str) -> bool:
        """See Display."""
        bar = bar_of(name, sentence)
        self.take(bar or Bar(name, "", -1))
        return bar is not None

    def take(self, bar: Bar) -> None:
        """Draw `bar` in place of the one of this name; below nothing, none."""
        with self.aside():
            if bar.percent < 0:
                self._bars.pop(bar.name, None)
            else:
                self._bars[bar.name] = bar

    def clear(self) -> None:
        """See Display."""
        with self.aside():
            self._bars.clear()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """See Display."""
        if self._drawn:
            self._write(f"\033[{self._drawn}A\033[J")
            self._drawn = 0
        try:
            yield
        finally:
            self._draw()

    def _draw(self) -> None:
        if not self._bars:
            return
        columns = shutil.get_terminal_size().columns
        names = max(map(len, self._bars))
        lines = [f"{_line(self._bars[name], names)[: columns - 1]}\n" for name in sorted(self._bars)]
        self._write("".join(lines))
        self._drawn = len(lines)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError, UnicodeEncodeError):
            self._terminal.write(text)
            self._terminal.flush()


class ToldBars:
    """Tells a launcher, which draws those of all ranks in one place."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._names: set[str] = set()

    def show(self, name: str, sentence: str) -> bool:
        """See Display."""
        bar = bar_of(name, sentence)
        if bar or name in self._names:
            self._names.add(name)
            self._tell(bar or Bar(name, "", -1))
        return bar is not None

    def clear(self) -> None:
        """See Display."""
        for name in self._names:
            self._tell(Bar(name, "", -1))
        self._names.clear()

    def aside(self) -> contextlib.AbstractContextManager[None]:
        """See Display."""
        return contextlib.nullcontext()

    def _tell(self, bar: Bar) -> None:
        with contextlib.suppress(OSError):
            self._stream.write((MARK + msgspec.json.encode(bar)).decode() + "\n")
            self._stream.flush()


def display_for(told: bool, log_format: str) -> Display:
    """Where this process shows progress; `told`: a launcher draws it."""
    if told:
        return ToldBars(sys.stderr)
    return Bars(sys.stderr) if sys.stderr.isatty() and log_format == "text" else NoDisplay()


def bar_of(name: str, sentence: str) -> Bar | None:
    """None where `sentence` does not end with a percentage."""
    found = PERCENT.fullmatch(sentence)
    return Bar(name, found[1], min(100, int(found[2]))) if found else None


def told_in(line: bytes) -> Bar | None:
    """The bar that a rank's line tells of."""
    try:
        return msgspec.json.decode(line[len(MARK) :], type=Bar) if line.startswith(MARK) else None
    except msgspec.DecodeError:
        return None


def _line(bar: Bar, names: int) -> str:
    full = WIDTH * bar.percent // 100
    return f"{bar.name:<{names}}  {FULL * full}{EMPTY * (WIDTH - full)} {bar.percent:3d} %  {bar.text}"
