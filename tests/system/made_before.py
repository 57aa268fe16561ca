"""What this machine has made once need not be made again where tests take another cache folder: here it costs minutes.

Files are linked, not copied: nothing that is in the cache is written to again.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from mlxserve.models.cache import cache_folder
from mlxserve.models.source import find_model

KERNELS = "kernels"
MODELS = "gguf"
_LEFT_OUT = ("*.tmp-*", "*.lock", "*.cpp")
"""Unfinished folders, locks, and what MLX writes anew for a kernel that it does not find."""


def give(cache: Path, *kinds: str) -> None:
    """Let the folder `cache`, as XDG_CACHE_HOME names one, begin with all there is of KERNELS or MODELS."""
    if MODELS in kinds:
        find_model("demo", lambda text: None)
    for kind in kinds:
        link(cache_folder() / kind, cache / "mlxserve" / kind)


def link(made: Path, folder: Path) -> None:
    """Let `folder` begin as `made` is, where that is there and the other is not."""
    if made.is_dir() and not folder.exists():
        shutil.copytree(made, folder, ignore=shutil.ignore_patterns(*_LEFT_OUT), copy_function=_link)


def _link(source: str, target: str) -> None:
    """Whatever another process takes away or renames at this moment is left out."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        return
    except OSError:  # another file system
        shutil.copy2(source, target)
