"""What a Mach-O file says about itself: architectures, libraries it loads, minimum macOS, where its signature lies."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from macholib import mach_o
from macholib.MachO import MachO, MachOHeader

Version = tuple[int, int]

ARCHITECTURE = "arm64"
"""The only one that MLX is built for."""
_ARCHITECTURES = {0x0100000C: "arm64", 0x01000007: "x86_64"}
_MAGICS = {bytes.fromhex(magic) for magic in ("cffaedfe", "cefaedfe", "cafebabe", "cafebabf")}


@dataclass(frozen=True)
class Signature:
    """Where a signature lies, in bytes."""

    start: int
    """Of the signed part, in the file: not 0 where a file has parts for several architectures."""
    offset: int
    """Of the signature, from `start`."""
    length: int


@dataclass(frozen=True)
class Image:
    """One Mach-O file: its arm64 part if it has one, else its first."""

    path: Path
    architectures: tuple[str, ...]
    kind: str
    """"execute", "dylib", or "bundle", which is what most Python extensions are."""
    identity: str
    dependencies: tuple[str, ...]
    """Install names of the libraries that must be there for it to load."""
    weak_dependencies: tuple[str, ...]
    """Those that may be missing."""
    rpaths: tuple[str, ...]
    minimum: Version
    """The oldest macOS that it runs on, as 26, 2."""
    signature: Signature | None

    def loads(self, name: str) -> bool:
        """Whether it loads a library with this file name."""
        return any(each.endswith(f"/{name}") for each in (*self.dependencies, *self.weak_dependencies))


def is_macho(path: Path) -> bool:
    """Whether the file begins as Mach-O files do."""
    with path.open("rb") as file:
        return file.read(4) in _MAGICS


def read(path: Path) -> Image:
    """The image in the file. Raises ValueError if it is not Mach-O or is damaged."""
    try:
        headers = MachO(str(path), allow_unknown_load_commands=True).headers
    except (struct.error, IndexError) as error:
        raise ValueError(f"{path} is cut off") from error
    names = tuple(_ARCHITECTURES.get(header.header.cputype, "another") for header in headers)
    header = headers[names.index(ARCHITECTURE) if ARCHITECTURE in names else 0]
    return Image(
        path=path,
        architectures=names,
        kind=header.filetype,
        identity=next(iter(_texts(header, mach_o.LC_ID_DYLIB)), ""),
        dependencies=_texts(header, mach_o.LC_LOAD_DYLIB, mach_o.LC_REEXPORT_DYLIB, mach_o.LC_LOAD_UPWARD_DYLIB),
        weak_dependencies=_texts(header, mach_o.LC_LOAD_WEAK_DYLIB),
        rpaths=_texts(header, mach_o.LC_RPATH),
        minimum=_minimum(header),
        signature=_signature(header),
    )


def _texts(header: MachOHeader, *kinds: int) -> tuple[str, ...]:
    return tuple(data.rstrip(b"\0").decode() for load, _, data in header.commands if load.cmd in kinds)


def _minimum(header: MachOHeader) -> Version:
    for load, command, _ in header.commands:
        if load.cmd == mach_o.LC_BUILD_VERSION:
            return int(command.minos) >> 16, int(command.minos) >> 8 & 0xFF
        if load.cmd == mach_o.LC_VERSION_MIN_MACOSX:
            return int(command.version) >> 16, int(command.version) >> 8 & 0xFF
    return 0, 0


def _signature(header: MachOHeader) -> Signature | None:
    for load, command, _ in header.commands:
        if load.cmd == mach_o.LC_CODE_SIGNATURE:
            return Signature(int(header.offset), int(command.dataoff), int(command.datasize))
    return None
