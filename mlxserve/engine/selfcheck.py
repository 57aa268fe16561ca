"""Whether MLX works in this process, and if not: which of its files are missing, and what to do."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from mlxserve.bundle import is_frozen
from mlxserve.errors import BrokenBuild

CRASHES = frozenset(
    getattr(signal, name) for name in ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
)
"""How a process ends by itself whose libraries are damaged, or made for another processor."""
_LIBRARIES = {"darwin": "libmlx.dylib"}
_METALLIBS = ("mlx.metallib", "Resources/mlx.metallib", "Resources/default.metallib")
"""What MLX looks for, in this order, in the folder of libmlx."""


def check_device() -> None:
    """Compute 1 + 1 on the default device. Raises BrokenBuild when MLX cannot be loaded, or computes wrong."""
    try:
        import mlx.core as mx

        device = mx.default_device()
        total = (mx.array(1) + mx.array(1)).item()
    except Exception as error:
        raise BrokenBuild(complaint(f"{type(error).__name__}: {error}")) from error
    if total != 2:
        raise BrokenBuild(complaint(f"1 + 1 is {total} on {device}"))


def complaint(what: str) -> str:
    """The sentence for the user: `what` is wrong, the files that MLX looks for, and what to do."""
    files = "; ".join(_state(path) for path in looked_for(_folders(), sys.platform))
    return f"MLX does not work here ({' '.join(what.split())}). Its files: {files or 'none'}. {_advice()}"


def looked_for(folders: list[Path], platform: str) -> list[Path]:
    """Where libmlx, and on a Mac the GPU's programs beside it, may be: in each of `folders`."""
    names = (_LIBRARIES.get(platform, "libmlx.so"), *(_METALLIBS if platform == "darwin" else ()))
    return [folder / name for folder in folders for name in names]


def _folders() -> list[Path]:
    """The folders of libmlx: the package's, and on a Mac the frozen application's, by whose symlink it is loaded."""
    linked = [Path(_application())] if is_frozen() and sys.platform == "darwin" else []
    return [*(Path(place) / "lib" for place in _packages()), *linked]


def _packages() -> Iterator[str]:
    spec = find_spec("mlx")
    yield from (spec.submodule_search_locations or ()) if spec else ()


def _application() -> str:
    return str(getattr(sys, "_MEIPASS", Path(sys.executable).parent))


def _state(path: Path) -> str:
    try:
        return f"{path} ({path.stat().st_size} bytes)"
    except OSError:
        return f"{path} (missing)"


def _advice() -> str:
    if is_frozen():
        which = ", the file made for this macOS" if sys.platform == "darwin" else ""
        return f"Remove {Path(sys.executable).parent} and copy mlxserve here again{which}."
    return "Install mlx anew: `pip install --force-reinstall mlx`, on Linux `mlx[cpu]`."
