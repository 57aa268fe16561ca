"""What ELF files say about themselves: the libraries they load, where these are looked for, the glibc they need."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_NEEDED = re.compile(r"\(NEEDED\).*\[(.*)\]")
_RPATH = re.compile(r"\((?:RPATH|RUNPATH)\).*\[(.*)\]")
_GLIBC = re.compile(r"Name: GLIBC_(\d+)\.(\d+)")


@dataclass(frozen=True)
class Object:
    """One ELF file."""

    path: Path
    needed: tuple[str, ...]
    rpaths: tuple[str, ...]
    """`$ORIGIN` as written."""
    glibc: tuple[int, int]
    """The newest glibc whose symbols it uses; (0, 0) for none."""


def is_elf(path: Path) -> bool:
    """Whether the file begins as ELF files do."""
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def read(paths: Sequence[Path]) -> list[Object]:
    """One object for each of `paths`. Raises SystemExit without readelf."""
    if not shutil.which("readelf"):
        raise SystemExit("readelf is missing: install binutils")
    objects = []
    for path in paths:
        text = subprocess.run(["readelf", "-dVW", path], capture_output=True, text=True, check=True).stdout
        versions = [(int(major), int(minor)) for major, minor in _GLIBC.findall(text)]
        rpaths = tuple(part for found in _RPATH.findall(text) for part in found.split(":"))
        objects.append(Object(path, tuple(_NEEDED.findall(text)), rpaths, max(versions, default=(0, 0))))
    return objects
