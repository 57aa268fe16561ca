"""How a long download or conversion tells that it moves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from huggingface_hub.utils import tqdm

Report = Callable[[str], None]
"""Takes one human line of progress."""

SECONDS_BETWEEN_LINES = 0.5


class Progress:
    """Passes on at most two lines a second, and the last one of each thing always."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._last = float("-inf")

    def say(self, name: str, done: int, total: int) -> None:
        """Report `name` at `done` of `total` units, if the last line is old enough or this one is the end."""
        now = time.monotonic()
        if done < total and now - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = now
        self._report(f"{name} {100 * done // total if total else 100} %")


class HiddenBar(tqdm):  # type: ignore[misc]
    """A progress bar for `huggingface_hub` that draws nothing: the node shows what is reported."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "disable": True})


def reporting_bar(name: str, report: Report) -> type[tqdm]:
    """A class of bars that report too."""
    progress = Progress(report)

    class ReportingBar(HiddenBar):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._done = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            self._done += int(n or 0)
            if self.total:
                progress.say(name, min(self._done, int(self.total)), int(self.total))
            drawn: bool | None = super().update(n)
            return drawn

    return ReportingBar
