"""What of a chat is shown: answers on stdout, all else on stderr; dim and bold on terminals alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from mlxserve.chat.answer import Delta

DIM, PLAIN = "\x1b[2m", "\x1b[0m"


class Screen:
    """Writes each piece as it comes."""

    def __init__(self, shows_thoughts: bool = True) -> None:
        self._shows_thoughts = shows_thoughts
        self._line_open = False
        self.text = ""
        """Of the answer that was shown last, as far as it came."""

    def show(self, deltas: Iterable[Delta]) -> None:
        """Write an answer as it comes."""
        self.text = ""
        thinking = False
        for delta in deltas:
            if delta.thought and self._shows_thoughts:
                thinking = True
                self._write(_dimmed(delta.thought, sys.stdout))
            if said := (delta.content or "") + delta.called:
                if thinking:
                    self._write("\n\n")
                    thinking = False
                self.text += said
                self._write(said)

    def end(self) -> None:
        """End the line that an answer, or a part of one, has left open."""
        if self._line_open:
            self._write("\n")

    def note(self, sentence: str) -> None:
        """Tell something beside the answers."""
        if sentence:
            print(_dimmed(sentence, sys.stderr), file=sys.stderr, flush=True)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
        self._line_open = not text.endswith("\n")


def _dimmed(text: str, stream: TextIO) -> str:
    return f"{DIM}{text}{PLAIN}" if stream.isatty() and "NO_COLOR" not in os.environ else text
