"""What mlxserve requires, and what else lies about in the environment that it is frozen from."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = "mlxserve"
UNUSED = {"typer"}
"""Required only for the command lines of other packages, with all that it requires in turn."""
METADATA_FILES = ("METADATA", "WHEEL", "top_level.txt")
"""What is read at run time. The other files name paths of the build machine, or digests of files that are left out."""


def required() -> set[str]:
    """The canonical names of all distributions that mlxserve needs here, directly or not, without extras."""
    found: set[str] = set()
    _add(Requirement(PROJECT), found)
    return found - {PROJECT}


def not_required() -> list[str]:
    """The top-level modules of every other distribution: packages use them where they find them."""
    needed = required() | {PROJECT}
    return sorted(
        module
        for module, owners in packages_distributions().items()
        if needed.isdisjoint(map(canonicalize_name, owners)) and module.isidentifier()
    )


def metadata() -> Iterator[tuple[str, str]]:
    """(file, folder in the application) of what `importlib.metadata` finds of the required distributions."""
    for name in sorted(required()):
        for file in distribution(name).files or []:
            if file.parent.suffix == ".dist-info" and file.name in METADATA_FILES:
                yield str(Path(file.locate())), str(file.parent)


def _add(requirement: Requirement, found: set[str]) -> None:
    name = canonicalize_name(requirement.name)
    if name in UNUSED or (name in found and not requirement.extras):
        return
    found.add(name)
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:  # needed on another platform, or in another way than by this name
        found.discard(name)
        return
    for line in map(Requirement, lines):
        extras = requirement.extras or {""}
        if line.marker is None or any(line.marker.evaluate({"extra": extra}) for extra in extras):
            _add(line, found)
