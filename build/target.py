"""On which machines a frozen application, or a package, runs: `python build/target.py FOLDER` prints it."""

from __future__ import annotations

import argparse
import platform as machine
from pathlib import Path
from typing import NamedTuple

import elf
import macho
from mlx_layout import JACCL, LIBMLX


class Requirement(NamedTuple):
    """What the binaries of a folder need."""

    platform: str
    """"darwin" or "linux"."""
    architecture: str
    minimum: tuple[int, int]
    """The oldest macOS, or the oldest glibc."""
    has_jaccl: bool
    """Whether MLX can use RDMA over Thunderbolt."""

    @property
    def oldest(self) -> str:
        """The minimum as people write it: 26.2."""
        return ".".join(map(str, self.minimum))


def requirement(folder: Path) -> Requirement:
    """What all binaries below `folder` need together. Raises ValueError when it holds none of MLX's libraries."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    names = {path.name for path in files}
    if LIBMLX["darwin"] in names:
        images = [macho.read(path) for path in files if macho.is_macho(path)]
        mlx = next(image for image in images if image.path.name == LIBMLX["darwin"])
        minimum = max(image.minimum for image in images)
        return Requirement("darwin", macho.ARCHITECTURE, minimum, mlx.loads(JACCL))
    if LIBMLX["linux"] in names:
        objects = elf.read([path for path in files if elf.is_elf(path)])
        return Requirement("linux", machine.machine(), max(each.glibc for each in objects), False)
    raise ValueError(f"{folder} has neither {LIBMLX['darwin']} nor {LIBMLX['linux']}")


def main() -> None:
    """Print what a folder needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    needs = requirement(parser.parse_args().folder)
    print(needs.platform, needs.architecture, needs.oldest, "jaccl" if needs.has_jaccl else "")


if __name__ == "__main__":
    main()
