"""Which build of mlxserve runs, and from which file: the frozen binary, or a source tree."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from pathlib import Path

FILE = "MLXSERVE_FILE"
"""The variable in which the self-extracting file leaves its own path for the application that it starts."""
_ID = "build-id"


def is_frozen() -> bool:
    """Whether this is the frozen application, which needs no Python."""
    return bool(getattr(sys, "frozen", False))


def binary() -> Path | None:
    """The one file that this application came from, to be run or copied elsewhere; None in a source tree."""
    if not is_frozen():
        return None
    named = os.environ.get(FILE, "")
    return Path(named if os.path.isfile(named) else sys.executable)


@functools.cache
def build_id() -> str:
    """What tells this build from any other: 12 hex digits of its content's digest, after `source-` if not frozen."""
    if is_frozen():
        return (Path(sys.executable).parent / _ID).read_text().strip()
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\0".encode() + path.read_bytes() + b"\0")
    return f"source-{digest.hexdigest()[:12]}"
