"""A finding: what the check saw of a host, how bad it is, and what to do."""

from __future__ import annotations

from typing import Literal

import msgspec

Level = Literal["ok", "warning", "error"]


class Finding(msgspec.Struct, frozen=True):
    """One line of the table. An error keeps the group from being formed."""

    host: str
    subject: str
    level: Level
    message: str
    advice: str = ""


def size(count: float) -> str:
    """Bytes for people."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count:.0f} B"


def version_of(text: str) -> tuple[int, ...]:
    """ "26.2.1" as numbers, to be compared."""
    return tuple(int(part) for part in text.split(".") if part.isdecimal())
