"""The shared libraries of the frozen application: what PyInstaller does not find by itself, and smaller copies."""

from __future__ import annotations

import glob
import shutil
import subprocess
import sys
from collections.abc import Iterable
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path

from mlx_layout import Layout

OPENBLAS = ("/usr/lib/*/libopenblas.so.0", "/usr/lib64/libopenblas.so.0", "/usr/lib/libopenblas.so.0")
"""MLX's wheel for Linux has the reference BLAS, 30 to 70 times slower; the engine process loads this one
before it (mlxserve/engine/blas.py)."""
FOREIGN = ("libcudart*",)
"""Found on the build machine by packages that look for it, and of no use."""
Entry = tuple[str, str, str]
"""(destination, source, kind): a row of PyInstaller's tables."""


def openblas() -> list[tuple[str, str]]:
    """(file, folder in the application) of the build machine's OpenBLAS; what it needs PyInstaller finds itself."""
    if sys.platform != "linux":
        return []
    found = sorted(path for pattern in OPENBLAS for path in glob.glob(pattern))
    if not found:
        print("OpenBLAS is not installed here: the application computes many times slower where the host has none.")
    return [(path, ".") for path in found[:1]]


def mlx_folder() -> Path:
    """Of the installed package, which is not imported."""
    spec = find_spec("mlx")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def with_layout(entries: Iterable[Entry], layout: Layout) -> list[Entry]:
    """`entries` with MLX's own files as `layout` has them, in place of what PyInstaller found of them."""
    ours = [
        *((name, source, "BINARY") for name, source in layout.binaries),
        *((name, source, "DATA") for name, source in layout.datas),
        *((name, target, "SYMLINK") for name, target in layout.symlinks),
    ]
    names = {Path(name).name for name, _, _ in ours}
    return [*(entry for entry in entries if _is_wanted(Path(entry[0]).name, names)), *ours]


def _is_wanted(name: str, settled: set[str]) -> bool:
    return name not in settled and not any(fnmatchcase(name, pattern) for pattern in FOREIGN)


def without_symbols(entries: Iterable[Entry], scratch: Path) -> list[Entry]:
    """The same rows, Python's own libraries replaced by copies without debugging symbols, which are most of them.

    Only on Linux, where that breaks no signature; and only Python's, since what wheels bring is stripped already, and
    libraries that were patched to be put into wheels do not survive it.
    """
    strip = shutil.which("strip") if sys.platform == "linux" else None
    if strip is None:
        return list(entries)
    scratch.mkdir()
    return [
        (name, _stripped(strip, source, scratch), kind)
        if _is_python(name) and kind != "SYMLINK"
        else (name, source, kind)
        for name, source, kind in entries
    ]


def _is_python(name: str) -> bool:
    path = Path(name)
    return path.name.startswith("libpython") or path.parent.name == "lib-dynload"


def _stripped(strip: str, source: str, scratch: Path) -> str:
    target = scratch / Path(source).name
    shutil.copyfile(source, target)
    target.chmod(0o755)
    subprocess.run([strip, "--strip-unneeded", target], check=True)
    return str(target)
