"""What `mlxserve version` prints: which build this is, and what it is made of."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

from mlxserve import __version__
from mlxserve.bundle import binary, build_id


def lines() -> Iterator[str]:
    """One line for each part: its name, its version. MLX need not work for it."""
    yield f"mlxserve {__version__}"
    yield f"build {_build()}"
    yield f"mlx {mlx_version()}"
    yield f"mlx-lm {_version('mlx-lm')}"
    yield f"Python {sys.version.split()[0]}"
    yield f"program {binary() or sys.executable}"
    if binary() not in (None, Path(sys.executable)):
        yield f"unpacked {Path(sys.executable).parent}"


def mlx_version() -> str:
    """MLX's version and the platform that its wheel is for: 0.32.4 (macosx_26_0_arm64)."""
    platforms = ", ".join(wheel_platforms("mlx"))
    return f"{_version('mlx')} ({platforms})" if platforms else _version("mlx")


def wheel_platforms(name: str) -> list[str]:
    """The platforms in the tags of the wheel that `name` was installed from; empty where it was not a wheel."""
    try:
        wheel = Distribution.from_name(name).read_text("WHEEL") or ""
    except PackageNotFoundError:
        return []
    tags = [line.removeprefix("Tag:").strip() for line in wheel.splitlines() if line.startswith("Tag:")]
    return sorted({tag.rpartition("-")[2] for tag in tags})


def _version(name: str) -> str:
    try:
        return Distribution.from_name(name).version
    except PackageNotFoundError:
        return "is not installed"


def _build() -> str:
    try:
        return build_id()
    except FileNotFoundError:
        return "not packed"
