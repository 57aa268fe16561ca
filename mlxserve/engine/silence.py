"""How long an engine process may say nothing. One that runs speaks once a second; one that does not stands still."""

from __future__ import annotations

import asyncio
import math

from mlxserve.engine.messages import Alive, Event, Progress

LOADING_SECONDS = 300.0
"""Before it has loaded: reading libraries and files may keep all its threads from running."""
LATER_SECONDS = 3.0
"""After that, beyond `--silence-timeout`: the other ranks notice it first, and can say who it is that is silent."""
TICK = 0.5


class Silence:
    """Of one engine process, since its last word."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: the seconds after which other ranks give up one that has loaded."""
        self._timeout = timeout + LATER_SECONDS
        self._lasted = 0.0
        self._bound = LOADING_SECONDS

    def ends_with(self, event: Event) -> None:
        """The engine has said this."""
        self._lasted = 0.0
        match event:
            case Progress(stage="meeting"):
                self._bound = self._timeout
            case Progress(stage="forming"):
                self._bound = math.inf  # MLX lets no thread run then; the node bounds it
            case Alive(loaded=loaded):
                self._bound = self._timeout if loaded else LOADING_SECONDS

    async def too_long(self) -> str:
        """Wait until it lasts too long; returns a sentence.

        Its time is counted, not taken from a clock: where this process was stopped or slept, too, nobody was silent.
        """
        while self._lasted < self._bound:
            await asyncio.sleep(TICK)
            self._lasted += TICK
        return f"the engine process has said nothing for {self._lasted:g} s: it was stuck or stopped, and is killed"
