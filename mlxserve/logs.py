"""How the log looks: a line for people, with time, level and rank, or an object for programs."""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any, TextIO

import msgspec

from mlxserve.bars import Display, NoDisplay
from mlxserve.config import Place, Settings

DIM, RED, YELLOW, BLUE, PLAIN = "\033[2m", "\033[31m", "\033[33m", "\033[34m", "\033[0m"
COLOURS = {"DEBUG": BLUE, "WARNING": YELLOW, "ERROR": RED, "CRITICAL": RED}
OURS = "mlxserve"
"""The logger of all our own lines; of libraries only warnings are shown."""


def set_up(settings: Settings, target: TextIO | None = None, display: Display | None = None) -> None:
    """Write this process's log to `target`, or stderr, as the settings say; above what `display` draws there."""
    stream = sys.stderr if target is None else target
    handler = LinesAbove(display or NoDisplay(), stream)
    handler.setFormatter(formatter_for(settings, _takes_colours(stream)))
    level = settings.log_level.upper()
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger(OURS).setLevel(level)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)


class LinesAbove(logging.StreamHandler[TextIO]):
    """Writes a line of the log where bars may be drawn."""

    def __init__(self, display: Display, stream: TextIO) -> None:
        super().__init__(stream)
        self._display = display

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        with self._display.aside():
            super().emit(record)


def formatter_for(settings: Settings, colours: bool) -> logging.Formatter:
    """What makes a line of a record."""
    if settings.log_format == "json":
        return ObjectLines(settings.place)
    return TextLines(settings.place, colours)


class TextLines(logging.Formatter):
    """`[rank 1] 2026-11-28 13:22:05 INFO ready`; where there is but one rank, without it."""

    def __init__(self, place: Place, colours: bool) -> None:
        rank = f"[rank {place.rank}] " if place.world_size > 1 else ""
        dim, plain = (DIM, PLAIN) if colours else ("", "")
        super().__init__(f"{rank}{dim}%(asctime)s{plain} %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
        self._colours = colours

    def formatMessage(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        colour = COLOURS.get(record.levelname) if self._colours else None
        if colour is None:
            return super().formatMessage(record)
        name = record.levelname
        record.levelname = f"{colour}{name}{PLAIN}"
        try:
            return super().formatMessage(record)
        finally:
            record.levelname = name


class ObjectLines(logging.Formatter):
    """An object with time, level, rank, logger and message, and all fields that the record has."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._rank = place.rank

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        told: dict[str, Any] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "rank": self._rank,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(told, enc_hook=str).decode()


def _takes_colours(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
