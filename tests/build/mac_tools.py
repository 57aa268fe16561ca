"""What PyInstaller calls on a Mac, for machines that are none: install_name_tool, codesign and lipo on arm64 files.

They do to the file what Apple's do as far as PyInstaller asks for it, so that its own decisions run unchanged.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import macho
from signature import code_directory

LC_ID_DYLIB = 0xD
LC_RPATH = 0x8000001C
LC_SEGMENT_64 = 0x19
LOADS = {0xC, 0x80000018, 0x8000001F, 0x80000023}
HEADER = 32
DYLIB_NAME, RPATH_NAME = 24, 12
"""Where the text of such a command begins."""

Command = tuple[int, bytes]


def run(arguments: Sequence[str], **_: object) -> subprocess.CompletedProcess[str]:
    """In place of subprocess.run."""
    program, *rest = arguments
    {"install_name_tool": install_name_tool, "codesign": codesign, "lipo": lipo}[Path(program).name](rest)
    return subprocess.CompletedProcess(arguments, 0, "", "")


def install_name_tool(arguments: list[str]) -> None:
    """-id NAME, -change OLD NEW, -delete_rpath PATH and -add_rpath PATH, then the file."""
    *words, file = arguments
    commands = load_commands(Path(file))
    while words:
        match words:
            case ["-id", name, *rest]:
                commands = [_renamed(c, name) if c[0] == LC_ID_DYLIB else c for c in commands]
            case ["-change", old, new, *rest]:
                commands = [_renamed(c, new) if c[0] in LOADS and _text(c, DYLIB_NAME) == old else c for c in commands]
            case ["-delete_rpath", path, *rest]:
                commands = [c for c in commands if c[0] != LC_RPATH or _text(c, RPATH_NAME) != path]
            case ["-add_rpath", path, *rest]:
                commands = [*commands, rpath_command(path)]
            case _:
                raise ValueError(f"install_name_tool {words}")
        words = rest
    write_load_commands(Path(file), commands)


def codesign(arguments: list[str]) -> None:
    """Sign anew a file that has an ad-hoc signature."""
    path = Path(arguments[-1])
    signed = macho.read(path).signature
    assert signed is not None
    content = bytearray(path.read_bytes())
    directory = code_directory(content, signed.offset)
    for page in range(directory.pages):
        content[directory.place(page)] = directory.digest(content, page)
    path.write_bytes(content)


def lipo(arguments: list[str]) -> None:
    """-thin arm64 FILE -output FILE."""
    thin, architecture, file, output, target = arguments
    assert (thin, architecture, output) == ("-thin", "arm64", "-output")
    content = Path(file).read_bytes()
    (count,) = struct.unpack_from(">I", content, 4)
    for index in range(count):
        kind, _, offset, size, _ = struct.unpack_from(">5I", content, 8 + 20 * index)
        if kind == 0x0100000C:
            Path(target).write_bytes(content[offset : offset + size])


def load_commands(path: Path) -> list[Command]:
    """The kind and the bytes of each load command."""
    content = path.read_bytes()
    (count,) = struct.unpack_from("<I", content, 16)
    commands, at = [], HEADER
    for _ in range(count):
        kind, size = struct.unpack_from("<II", content, at)
        commands.append((kind, content[at : at + size]))
        at += size
    return commands


def write_load_commands(path: Path, commands: list[Command]) -> None:
    """Replace all load commands; what follows them in the file stays where it is."""
    content = bytearray(path.read_bytes())
    packed = b"".join(data for _, data in commands)
    room = _first_section(commands) - HEADER
    assert len(packed) <= room, "no room for longer load commands"
    content[HEADER : HEADER + room] = packed.ljust(room, b"\0")
    struct.pack_into("<II", content, 16, len(commands), len(packed))
    path.write_bytes(content)


def rpath_command(path: str) -> Command:
    """An LC_RPATH for `path`."""
    return LC_RPATH, _packed(struct.pack("<III", LC_RPATH, 0, RPATH_NAME), path)


def load_command(name: str) -> Command:
    """An LC_LOAD_DYLIB for `name`."""
    return 0xC, _packed(struct.pack("<6I", 0xC, 0, DYLIB_NAME, 0, 0, 0), name)


def _renamed(command: Command, name: str) -> Command:
    return command[0], _packed(command[1][:DYLIB_NAME], name)


def _packed(head: bytes, text: str) -> bytes:
    data = head + text.encode() + b"\0"
    data += b"\0" * (-len(data) % 8)
    return data[:4] + struct.pack("<I", len(data)) + data[8:]


def _text(command: Command, start: int) -> str:
    return command[1][start:].rstrip(b"\0").decode()


def _first_section(commands: list[Command]) -> int:
    """Where the first section's bytes begin in the file."""
    starts = []
    for kind, data in commands:
        if kind == LC_SEGMENT_64:
            (sections,) = struct.unpack_from("<I", data, 64)
            starts += [struct.unpack_from("<I", data, 72 + 80 * index + 48)[0] for index in range(sections)]
    return min(start for start in starts if start)
