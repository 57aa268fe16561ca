"""How the parts are run."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import msgspec

from .model import endless_folder, packaged_folder, random_folder
from .subjects import Start

NO_GUESSES = ("--speculation", "off")
"""For what compares decoding step by step; and because the random model repeats itself, so that guesses are right."""


class Setup(msgspec.Struct, frozen=True):
    """Rounds, and BLAS threads a rank."""

    rounds: int
    threads: int
    tokens: int

    def random(self, *flags: str) -> Start:
        """The random model."""
        return Start(_random(), self.threads, flags)

    def packaged(self, *flags: str) -> Start:
        """The packaged model."""
        return Start(_packaged(), self.threads, flags)

    def endless(self, *flags: str) -> Start:
        """The packaged model, whose answers end at their bound."""
        return Start(_endless(), self.threads, flags)


def say(line: str) -> None:
    """Show progress."""
    print(line, file=sys.stderr, flush=True)


@functools.cache
def _random() -> Path:
    return random_folder()


@functools.cache
def _packaged() -> Path:
    return packaged_folder()


@functools.cache
def _endless() -> Path:
    return endless_folder()
