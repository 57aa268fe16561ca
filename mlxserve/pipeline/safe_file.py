"""Files that are whole or not there: written beside their place and renamed, with a checksum in front."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

_DIGEST_BYTES = 32


def write_whole(path: Path, content: bytes) -> None:
    """Put `content` at `path`, whatever was there. Raises OSError, and leaves what was there."""
    beside = path.with_name(f"{path.name}.part")
    try:
        with open(beside, "wb", opener=_for_its_owner) as file:
            file.write(_digest(content))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def read_whole(path: Path) -> bytes:
    """What was written at `path`. Raises OSError, or ValueError if it is damaged or something else."""
    with path.open("rb") as file:
        digest, content = file.read(_DIGEST_BYTES), file.read()
    if digest != _digest(content):
        raise ValueError("its checksum is not that of its content")
    return content


def _for_its_owner(path: str, flags: int) -> int:
    """Open `path`, which nobody else may read: it tells of prompts."""
    return os.open(path, flags, 0o600)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
