"""What must be true of an application frozen on Linux. A rule yields what breaks it, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from elf import Object
from frozen import Frozen
from mlx_layout import LIBMLX

_GLIBC = {
    *("libc.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libresolv.so.2"),
    *("ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"),
}
"""Of the system itself: these and no others may be taken from it."""


def executable(frozen: Frozen) -> Iterator[str]:
    """The program is there."""
    if not os.access(frozen.executable, os.X_OK):
        yield f"{frozen.executable} is missing or may not be run: freeze it anew with `make binary`"


def one_libmlx(frozen: Frozen) -> Iterator[str]:
    """There is one libmlx, at mlx/lib: two in one process register everything twice."""
    expected = frozen.internal / "mlx" / "lib" / LIBMLX["linux"]
    found = frozen.named("libmlx*.so")
    if expected not in found:
        yield f"{expected} is missing: install mlx[cpu] anew"
    for path in found:
        if path != expected:
            yield f"{path} is a second libmlx: the spec must collect it once"


def libraries(frozen: Frozen) -> Iterator[str]:
    """Each library that a binary loads is in the application or a part of glibc."""
    for each in frozen.objects:
        for name in each.needed:
            if name not in _GLIBC and not any((folder / name).is_file() for folder in _folders(frozen, each)):
                yield f"{each.path.relative_to(frozen.folder)} loads {name}: add it to the spec's binaries"


def links(frozen: Frozen) -> Iterator[str]:
    """The symlinks are relative and lead to files of the application."""
    for path in frozen.files:
        if path.is_symlink() and not (
            path.exists()
            and path.resolve().is_relative_to(frozen.internal.resolve())
            and not os.path.isabs(os.readlink(path))
        ):
            yield f"{path} leads to {os.readlink(path)}, which is not a file of the application: freeze anew"


def _folders(frozen: Frozen, each: Object) -> Iterator[Path]:
    """Where it is looked for: PyInstaller sets LD_LIBRARY_PATH to `_internal`."""
    yield frozen.internal
    for rpath in each.rpaths:
        yield Path(rpath.replace("$ORIGIN", str(each.path.parent)).replace("${ORIGIN}", str(each.path.parent)))
