"""By which path macOS loads each library of the frozen application, worked out from the files alone.

As dyld does it: `@rpath/name` is looked for in the rpaths of the library that wants it, of those that had it loaded,
and of the executable, in this order. A library reached by a symlink is known by the symlink's path; whether
`@loader_path` then means the folder of the symlink or of the file is not documented, so both are followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from macho import Image

SYSTEM = ("/usr/lib/", "/System/Library/")


@dataclass(frozen=True)
class Found:
    """A library of the bundle, `by` the path that dyld knows it by."""

    by: Path
    image: Image


@dataclass(frozen=True)
class Missing:
    """A library that is not in the bundle, nor a part of macOS."""

    name: str
    wanted_by: Path
    tried: tuple[Path, ...]


Chain = tuple[Found, ...]
"""Who loads: the executable first."""


def loads(executable: Image, others: Mapping[Path, Image]) -> Iterator[Found | Missing]:
    """All that is loaded when Python opens its extensions among `others`, each by its own path, in a process alone.

    `others` have their resolved paths as keys. What nothing loads is opened as extensions are.
    """
    main = Found(executable.path, executable)
    reached: set[Path] = set()
    for image in sorted(others.values(), key=lambda image: image.kind != "bundle"):
        if image.path.resolve() in reached:
            continue
        for each in _opened((main, Found(image.path, image)), others):
            if isinstance(each, Found):
                reached.add(each.by.resolve())
            yield each


def _opened(chain: Chain, others: Mapping[Path, Image]) -> Iterator[Found | Missing]:
    yield chain[-1]
    for of_file in (True, False):
        yield from _dependencies(chain[:1], others, of_file)
        yield from _dependencies(chain, others, of_file)


def _dependencies(chain: Chain, images: Mapping[Path, Image], of_file: bool) -> Iterator[Found | Missing]:
    loaded: set[Path] = {found.by.resolve() for found in chain}
    waiting = [chain]
    while waiting:
        chain = waiting.pop(0)
        image = chain[-1].image
        for name in (*image.dependencies, *image.weak_dependencies):
            if name.startswith(SYSTEM):
                continue
            tried = list(_candidates(name, chain, of_file))
            by = next((path for path in tried if path.resolve() in images), None)
            if by is None:
                if name not in image.weak_dependencies:
                    yield Missing(name, chain[-1].by, tuple(tried))
            elif by.resolve() not in loaded:
                loaded.add(by.resolve())
                found = Found(by, images[by.resolve()])
                yield found
                waiting.append((*chain, found))


def _candidates(name: str, chain: Chain, of_file: bool) -> Iterator[Path]:
    """The paths that dyld tries for `name`, wanted by the last of `chain`."""
    if not name.startswith("@rpath/"):
        yield _expanded(name, chain[-1], chain[0], of_file)
        return
    for found in (*reversed(chain[1:]), chain[0]):
        for rpath in found.image.rpaths:
            yield _expanded(f"{rpath}/{name.removeprefix('@rpath/')}", found, chain[0], of_file)


def _expanded(name: str, loader: Found, executable: Found, of_file: bool) -> Path:
    own = loader.by.resolve() if of_file else loader.by
    name = name.replace("@loader_path", str(own.parent)).replace("@executable_path", str(executable.by.parent))
    return Path(os.path.normpath(name))
