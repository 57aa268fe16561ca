"""Which files of the `mlx` package go where in the frozen application, outside the archive of Python modules.

MLX looks for `mlx.metallib` beside the path by which the system loaded libmlx. PyInstaller keeps the library at
`mlx/lib`, puts a symlink to it at the top and has it loaded through that: so the metallib lies beside both. Libraries
that libmlx loads, as JACCL's, lie in the same two places. Headers and CMake files stay behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import macho

Pair = tuple[str, str]

LIBRARY = PurePosixPath("mlx/lib")
LIBMLX = {"darwin": "libmlx.dylib", "linux": "libmlx.so"}
METALLIB = "mlx.metallib"
JACCL = "libjaccl.dylib"
JACCL_SINCE: macho.Version = (26, 2)
"""MLX is built with JACCL where it may ask for this macOS."""
_CORE = "core.*.so"


class LayoutError(Exception):
    """The package cannot be made into an application that works; the message names the files and what to do."""


@dataclass(frozen=True)
class Layout:
    """Pairs of a destination in the bundle's `_internal` and the source: a file, or what a symlink says."""

    binaries: list[Pair] = field(default_factory=list)
    datas: list[Pair] = field(default_factory=list)
    symlinks: list[Pair] = field(default_factory=list)


def layout(package: Path, platform: str) -> Layout:
    """Where the files of `package` go: the `mlx` folder of an environment, or of MLX's wheels unpacked into one folder.

    `platform` is "darwin" or "linux". Raises LayoutError.
    """
    core, library = _core(package), package / "lib" / LIBMLX[platform]
    if platform == "linux":
        _require(library)
        return Layout(binaries=[_core_pair(core), _pair(library)])
    _require(library, package / "lib" / METALLIB)
    libraries = _loaded(core, package / "lib")
    _check_images([macho.read(path) for path in (core, *libraries)])
    metallibs = sorted((package / "lib").glob("*.metallib"))
    return Layout(
        binaries=[_core_pair(core), *map(_pair, libraries)],
        datas=[*map(_pair, metallibs)],
        symlinks=[(path.name, str(LIBRARY / path.name)) for path in (*libraries, *metallibs)],
    )


def _pair(path: Path) -> Pair:
    return str(LIBRARY / path.name), str(path)


def _core_pair(core: Path) -> Pair:
    return f"mlx/{core.name}", str(core)


def _core(package: Path) -> Path:
    found = sorted(package.glob(_CORE))
    if len(found) != 1:
        raise LayoutError(
            f"{package} has {len(found)} files named {_CORE}, not one: make a new environment, install mlx into it"
        )
    return found[0]


def _require(*paths: Path) -> None:
    missing = [str(path) for path in paths if not path.is_file() or not path.stat().st_size]
    if missing:
        raise LayoutError(
            f"missing or empty: {', '.join(missing)}: install mlx and mlx-metal (Linux: mlx-cpu) of one version anew"
        )


def _loaded(core: Path, folder: Path) -> list[Path]:
    """The libraries of the package that load with `core`, each before what it loads itself."""
    found: list[Path] = []
    waiting = [core]
    while waiting:
        image = macho.read(waiting.pop(0))
        for name in (*image.dependencies, *image.weak_dependencies):
            path = folder / PurePosixPath(name).name
            if not name.startswith("@") or path in found:
                continue
            if not path.is_file():
                if name in image.weak_dependencies:
                    continue
                raise LayoutError(f"{image.path} loads {name}, but there is no {path}: install mlx and mlx-metal anew")
            found.append(path)
            waiting.append(path)
    return found


def _check_images(images: list[macho.Image]) -> None:
    for image in images:
        if macho.ARCHITECTURE not in image.architectures:
            raise LayoutError(f"{image.path} is for {', '.join(image.architectures)}, not {macho.ARCHITECTURE}")
    if len({image.minimum for image in images}) > 1:
        versions = ", ".join(f"{image.path.name} {dotted(image.minimum)}" for image in images)
        raise LayoutError(
            f"wheels for different versions of macOS are mixed: {versions}: install mlx and mlx-metal anew"
        )
    if images[0].minimum >= JACCL_SINCE and not any(image.loads(JACCL) for image in images):
        raise LayoutError(
            f"{LIBMLX['darwin']} is for macOS {dotted(images[0].minimum)} but does not load {JACCL}: "
            "install mlx and mlx-metal anew, as wheels"
        )


def dotted(version: tuple[int, ...]) -> str:
    """As people write it: 26.2."""
    return ".".join(map(str, version))
