"""The file that `--trace` names: a JSON array of events, whole at any time."""

from __future__ import annotations

from pathlib import Path

import msgspec

from mlxserve.engine.timeline import Event
from mlxserve.errors import UserError

_END = b"\n]\n"


def begin(path: str) -> None:
    """Begin it anew. Raises UserError where it cannot be written."""
    try:
        _place(path).write_bytes(b"[" + _END)
    except OSError as error:
        raise UserError(f"--trace {path} cannot be written: {error.strerror}") from error


class TraceFile:
    """Grows by events; engines that follow each other go on where the one before stopped."""

    def __init__(self, path: str) -> None:
        self._path = _place(path)

    def append(self, events: list[Event]) -> None:
        """Add `events`. Raises OSError."""
        if not events:
            return
        with self._path.open("r+b") as file:
            end = file.seek(-len(_END), 2)
            comma = b"" if end == 1 else b","
            file.write(comma + b"".join(b"\n" + msgspec.json.encode(event) + b"," for event in events)[:-1] + _END)


def _place(path: str) -> Path:
    return Path(path).expanduser()
