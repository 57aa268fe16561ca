"""The frozen application as a folder: the executable, and beside it `_internal` with all that it needs."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import elf
import macho

NAME = "mlxserve"
_PYTHON = (".py", ".pyc")


@dataclass(frozen=True)
class Frozen:
    """One such folder, made for `platform`: "darwin" or "linux"."""

    folder: Path
    platform: str

    @property
    def executable(self) -> Path:
        return self.folder / NAME

    @property
    def internal(self) -> Path:
        return self.folder / "_internal"

    @functools.cached_property
    def files(self) -> list[Path]:
        """All of `_internal`, symlinks included, folders not."""
        return sorted(path for path in self.internal.rglob("*") if path.is_symlink() or not path.is_dir())

    def named(self, pattern: str) -> list[Path]:
        """The files, not the symlinks, whose name matches."""
        return [path for path in self.files if path.match(pattern) and not path.is_symlink()]

    @functools.cached_property
    def images(self) -> dict[Path, macho.Image]:
        """The Mach-O files of `_internal` by resolved path."""
        return {path.resolve(): macho.read(path) for path in self.files if is_file(path) and macho.is_macho(path)}

    @functools.cached_property
    def main(self) -> macho.Image:
        """The executable of a Mac."""
        return macho.read(self.executable)

    @functools.cached_property
    def objects(self) -> list[elf.Object]:
        """The ELF files, the executable first."""
        return elf.read([self.executable, *(path for path in self.files if is_file(path) and elf.is_elf(path))])

    @functools.cached_property
    def modules(self) -> set[str]:
        """The full names of all Python modules: those in the executable's archive and those that lie as files."""
        return {*_archived(self.executable), *self._loose()}

    def _loose(self) -> Iterator[str]:
        for path in self.files:
            if path.suffix in (*_PYTHON, ".so"):
                parts = path.relative_to(self.internal).parts
                yield ".".join((*parts[:-1], parts[-1].partition(".")[0])).removesuffix(".__init__")


def is_file(path: Path) -> bool:
    """Whether it is a file itself, not a symlink to one."""
    return path.is_file() and not path.is_symlink()


def _archived(executable: Path) -> set[str]:
    from PyInstaller.archive.readers import CArchiveReader

    archive = CArchiveReader(str(executable))
    return {
        name for entry in archive.toc if entry.endswith(".pyz") for name in archive.open_embedded_archive(entry).toc
    }
