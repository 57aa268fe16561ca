"""Standard input, output and error: there although they were closed, and quiet where nobody reads them any more."""

from __future__ import annotations

import os
import sys
from typing import IO, Any


def complete() -> None:
    """Open on /dev/null what of the three is closed, so that no other file takes its number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def flush() -> None:
    """Write what is left. What cannot be written is dropped, or the interpreter would try and complain at its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            drop(stream)


def drop(stream: IO[Any]) -> None:
    """Let all that is written to `stream` go nowhere from now on."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
