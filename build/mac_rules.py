"""What must be true of an application frozen on a Mac. A rule yields what breaks it, and what to do about it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import dyld
import macho
import signature
from frozen import Frozen, is_file
from mlx_layout import JACCL, JACCL_SINCE, LIBMLX, METALLIB, dotted

_METALLIB_MAGIC = b"MTLB"
_LOOKED_FOR = (METALLIB, f"Resources/{METALLIB}", "Resources/default.metallib")
"""What MLX looks for beside the path of libmlx; then comes a path of the machine that built it, which no Mac has."""


def executable(frozen: Frozen) -> Iterator[str]:
    """The program is there, for this architecture."""
    if not os.access(frozen.executable, os.X_OK):
        yield f"{frozen.executable} is missing or may not be run: freeze it anew with `make binary`"
    elif not macho.is_macho(frozen.executable) or frozen.main.kind != "execute":
        yield f"{frozen.executable} is not a program for macOS: run `make binary` on a Mac"


def architecture(frozen: Frozen) -> Iterator[str]:
    """All binaries are for arm64 alone."""
    for image in (frozen.main, *frozen.images.values()):
        if image.architectures != (macho.ARCHITECTURE,):
            yield (
                f"{_name(frozen, image.path)} is for {' and '.join(image.architectures)}, not {macho.ARCHITECTURE}: "
                "freeze with a Python for arm64, and target_arch='arm64' in the spec"
            )


def one_libmlx(frozen: Frozen) -> Iterator[str]:
    """There is one libmlx, at mlx/lib: two in one process register everything twice."""
    expected = frozen.internal / "mlx" / "lib" / LIBMLX["darwin"]
    found = frozen.named("libmlx*.dylib")
    if expected not in found:
        yield f"{_name(frozen, expected)} is missing: install mlx-metal anew"
    for path in found:
        if path != expected:
            yield f"{_name(frozen, path)} is a second libmlx: the spec must collect it once, and link to it"


def metallib(frozen: Frozen) -> Iterator[str]:
    """The GPU's programs lie at mlx/lib as a file."""
    path = frozen.internal / "mlx" / "lib" / METALLIB
    if not is_file(path):
        yield f"{_name(frozen, path)} is missing: collect what build/mlx_layout.py names"
    elif not _begins_with(path, _METALLIB_MAGIC):
        yield f"{_name(frozen, path)} is not a metallib: install mlx-metal anew"


def metallib_beside_libmlx(frozen: Frozen) -> Iterator[str]:
    """The metallib lies beside every path by which macOS may load libmlx."""
    paths = {found.by for found in _loaded(frozen) if found.by.name == LIBMLX["darwin"]}
    if not paths:
        yield "nothing loads libmlx: install mlx and mlx-metal of the same version, freeze anew"
    for path in sorted(paths):
        if not (path.parent / METALLIB).is_file():
            looked = ", ".join(_LOOKED_FOR)
            yield (
                f"macOS loads {_name(frozen, path)}, beside which MLX finds none of {looked}: "
                "the spec must add the symlinks that build/mlx_layout.py names"
            )


def links(frozen: Frozen) -> Iterator[str]:
    """The symlinks are relative and lead to files of the application."""
    for path in frozen.files:
        if path.is_symlink():
            target = os.readlink(path)
            if os.path.isabs(target) or not path.resolve().is_relative_to(frozen.internal.resolve()):
                yield f"{_name(frozen, path)} leads out of the application, to {target}: freeze anew"
            elif not path.exists():
                yield f"{_name(frozen, path)} leads to {target}, which is missing: freeze anew"


def libraries(frozen: Frozen) -> Iterator[str]:
    """Each library that a binary loads is in the application or a part of macOS."""
    missing = {each for each in dyld.loads(frozen.main, frozen.images) if isinstance(each, dyld.Missing)}
    for name, wanted_by in sorted({(each.name, each.wanted_by) for each in missing}):
        tried = {_name(frozen, path) for each in missing if each.name == name for path in each.tried}
        yield (
            f"{_name(frozen, wanted_by)} loads {name}, which is not at {', '.join(sorted(tried)) or 'any rpath'}: "
            "add it to the spec's binaries"
        )


def rpaths(frozen: Frozen) -> Iterator[str]:
    """Libraries are looked for in the application alone, not in folders of the Mac that built it."""
    for image in (frozen.main, *frozen.images.values()):
        for rpath in image.rpaths:
            if not rpath.startswith(("@loader_path", "@executable_path")):
                yield f"{_name(frozen, image.path)} looks for libraries in {rpath}: freeze with PyInstaller 6 or later"


def minimum(frozen: Frozen) -> Iterator[str]:
    """No binary asks for a newer macOS than MLX does, and MLX's come from wheels for the same one."""
    mlx = _libmlx(frozen)
    if mlx is None:
        return
    for image in (frozen.main, *frozen.images.values()):
        own = image.path.is_relative_to(frozen.internal / "mlx")
        if image.minimum > mlx.minimum or (own and image.minimum != mlx.minimum):
            yield (
                f"{_name(frozen, image.path)} is for macOS {dotted(image.minimum)}, libmlx for {dotted(mlx.minimum)}: "
                + ("install mlx and mlx-metal for one macOS" if own else "freeze with a Python for an older macOS")
            )


def jaccl(frozen: Frozen) -> Iterator[str]:
    """MLX for macOS 26 loads JACCL, for RDMA over Thunderbolt."""
    mlx = _libmlx(frozen)
    if mlx and mlx.minimum >= JACCL_SINCE and not mlx.loads(JACCL):
        yield f"libmlx for macOS {dotted(mlx.minimum)} does not load {JACCL}: install mlx and mlx-metal as wheels"


def signatures(frozen: Frozen) -> Iterator[str]:
    """Every binary is signed, and unchanged since: an arm64 Mac kills a process with any other."""
    for image in (frozen.main, *frozen.images.values()):
        wrong = signature.fault(image.path, image.signature) if image.signature else "not signed"
        if wrong:
            yield f"{_name(frozen, image.path)}: {wrong}: no strip, no UPX; or `codesign -s - --force` it"


def _begins_with(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _libmlx(frozen: Frozen) -> macho.Image | None:
    return next((image for image in frozen.images.values() if image.path.name == LIBMLX["darwin"]), None)


def _loaded(frozen: Frozen) -> Iterator[dyld.Found]:
    for each in dyld.loads(frozen.main, frozen.images):
        if isinstance(each, dyld.Found):
            yield each


def _name(frozen: Frozen, path: Path) -> str:
    return str(path.relative_to(frozen.folder)) if path.is_relative_to(frozen.folder) else str(path)
