"""How the parts are run."""

from __future__ import annotations

import sys

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
        return Start(random_folder(), self.threads, flags)

    def packaged(self, *flags: str) -> Start:
        """The packaged model."""
        return Start(packaged_folder(), self.threads, flags)

    def endless(self, *flags: str) -> Start:
        """The packaged model, whose answers end at their bound."""
        return Start(endless_folder(), self.threads, flags)


def say(line: str) -> None:
    """Show progress."""
    print(line, file=sys.stderr, flush=True)
