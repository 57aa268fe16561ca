"""OpenBLAS for MLX on Linux.

MLX's CPU wheel for Linux links the reference BLAS, 30 to 70 times slower. A library of the same functions that comes
before it in the process takes its place. Run from source, that is the system's OpenBLAS, preloaded. The frozen
application has one of its own, which goes with the libraries beside it, and loads it before MLX.
"""

from __future__ import annotations

import ctypes
import glob
import os
import sys
from pathlib import Path

from mlxserve.bundle import is_frozen

FILE = "libopenblas.so.0"
_FOLDERS = ("/usr/lib/*/", "/usr/lib64/", "/usr/lib/")


def to_preload() -> str | None:
    """The system's OpenBLAS, for LD_PRELOAD; None where there is none, or none is wanted."""
    if sys.platform != "linux" or _own():
        return None
    found = [path for folder in _FOLDERS for path in sorted(glob.glob(folder + FILE))]
    return next((path for path in found if os.path.exists(path)), None)


def preload(variables: dict[str, str]) -> None:
    """Let a process that starts with `variables` have the system's OpenBLAS, unless they name one already."""
    preloaded = variables.get("LD_PRELOAD", "")
    if "openblas" not in preloaded and (library := to_preload()):
        variables["LD_PRELOAD"] = f"{library} {preloaded}".strip()


def load_own() -> None:
    """Load the application's own OpenBLAS. To be called before MLX is imported; without effect when run from source."""
    if own := _own():
        ctypes.CDLL(str(own), mode=ctypes.RTLD_GLOBAL)


def _own() -> Path | None:
    file = Path(sys.executable).parent / "_internal" / FILE
    return file if is_frozen() and file.exists() else None
