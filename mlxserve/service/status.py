"""What a service is doing."""

from __future__ import annotations

import msgspec


class Status(msgspec.Struct, frozen=True):
    """Whether a service runs, and a sentence on since when or why not."""

    is_running: bool
    sentence: str
