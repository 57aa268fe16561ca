"""What must be in a frozen application, and what not. A rule yields what breaks it, and what to do about it."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from frozen import Frozen

_BY_NAME = tuple(f"mlx_lm.{name}" for name in ("models", "tool_parsers", "chat_templates"))
"""Packages whose modules mlx-lm imports by names it finds in a model's config."""
_HIDDEN = ("mlx._reprlib_fix",)
"""Imported from C++."""
_UNWANTED = {"torch", "tensorflow", "jax", "flax", "pytest", "hypothesis", "pip", "PyInstaller", "tkinter", "mypy"}
_DEVELOPERS = (".h", ".hpp", ".cmake", ".pyi", ".a")
_METADATA = ("mlx-*.dist-info/METADATA", "mlx-*.dist-info/WHEEL", "mlx_lm-*.dist-info/METADATA")
"""What `mlxserve version` reads."""


def models(frozen: Frozen) -> Iterator[str]:
    """All of mlx-lm's models, tool parsers and chat templates are in it."""
    for package in _BY_NAME:
        missing = _modules_of(package) - frozen.modules
        if missing:
            yield f"without {', '.join(sorted(missing))}: add collect_submodules({package!r}) to the hidden imports"


def hidden(frozen: Frozen) -> Iterator[str]:
    """What is imported by C++ is in it."""
    for name in _HIDDEN:
        if name not in frozen.modules:
            yield f"without {name}: add it to the hidden imports"


def unwanted(frozen: Frozen) -> Iterator[str]:
    """No other frameworks, no tools of developers."""
    for name in sorted(_UNWANTED & {module.partition(".")[0] for module in frozen.modules}):
        yield f"has {name}: exclude it in the spec"


def tests(frozen: Frozen) -> Iterator[str]:
    """No package's tests."""
    for name in sorted(frozen.modules):
        *packages, module = name.split(".")
        if "tests" in packages or module == "conftest" or module.startswith("test_"):
            yield f"has {name}: exclude it in the spec"


def developers(frozen: Frozen) -> Iterator[str]:
    """No headers, no stubs."""
    for path in frozen.files:
        if path.suffix in _DEVELOPERS:
            yield f"has {path.relative_to(frozen.folder)}: leave it out in the spec"


def metadata(frozen: Frozen) -> Iterator[str]:
    """What `mlxserve version` reads is in it."""
    for pattern in _METADATA:
        if not list(frozen.internal.glob(pattern)):
            yield f"without {pattern}: add it to the metadata in the spec"


def _modules_of(package: str) -> set[str]:
    """The modules of the package as it is installed here."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{package} is not installed here, to compare with: run this in the environment of `make`")
    folders = [str(Path(folder)) for folder in spec.submodule_search_locations]
    return {f"{package}.{module.name}" for module in pkgutil.iter_modules(folders)}
