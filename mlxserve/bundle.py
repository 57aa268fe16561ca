"""Which build of mlxserve runs, and from which file: the frozen binary, or a source tree.

The binary is one file that unpacks itself into a folder named after its build (build/stub.sh) and becomes the
application there. Each process of the application holds a shared lock on its folder's `used`, so that a later build
can tell which folders nobody needs any more.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

FILE = "MLXSERVE_FILE"
"""The variable in which the self-extracting file leaves its own path for the application that it starts."""
_ID = "build-id"
_LIBRARY_PATH = "LD_LIBRARY_PATH"


def is_frozen() -> bool:
    """Whether this is the frozen application, which needs no Python."""
    return bool(getattr(sys, "frozen", False))


def packed_file() -> Path | None:
    """The one file that this application unpacked itself from; None in a source tree, or where the file is gone."""
    named = os.environ.get(FILE, "")
    return Path(named) if is_frozen() and os.path.isfile(named) else None


def binary() -> Path | None:
    """What starts this application again on this machine: its one file, or the program in its folder if that is gone.

    None in a source tree.
    """
    return (packed_file() or Path(sys.executable)) if is_frozen() else None


def restore_environment(variables: MutableMapping[str, str]) -> None:
    """Undo what the frozen application's bootloader has set, so that system programs load the system's libraries.

    Own processes start with the bootloader, too, which sets it anew.
    """
    if not is_frozen():
        return
    for name in [name for name in variables if name.startswith("_PYI_")]:
        del variables[name]
    original = variables.pop(f"{_LIBRARY_PATH}_ORIG", "")
    variables.pop(_LIBRARY_PATH, None)
    if original:
        variables[_LIBRARY_PATH] = original


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
