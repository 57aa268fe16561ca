"""What models there are on this machine, told by names and sizes: no weights are read, and no hub is asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec
from huggingface_hub import constants

from mlxserve.errors import UserError
from mlxserve.launch.check import model as finding
from mlxserve.launch.check.messages import Model
from mlxserve.models.cache import cache_folder
from mlxserve.models.demo import demo_file
from mlxserve.models.folder import WEIGHT_FILES
from mlxserve.models.supply.kept import SUFFIX, Index, index_of, kept_folder

Kind = Literal["hub", "folder", "file", "converted", "kept"]


class Entry(msgspec.Struct, frozen=True):
    """A model, or what there is of it."""

    name: str
    """What `--model` takes; of what was made of another, that one's name."""
    kind: Kind
    weight_bytes: int
    place: str
    missing: int = 0
    """Weight files that are not here."""


def models_here(folders: tuple[str, ...] = ()) -> list[Entry]:
    """Those in the caches, the demo, and those in `folders`. Raises UserError where one of these is none."""
    return [*_of_hub(), *_demo(), *(entry for folder in folders for entry in _in(folder)), *_converted(), *_kept()]


def _of_hub() -> Iterator[Entry]:
    for repository in sorted(Path(constants.HF_HUB_CACHE).glob("models--*")):
        name = repository.name.removeprefix("models--").replace("--", "/")
        for snapshot in sorted((repository / "snapshots").glob("*")):
            current = finding.find(name).place == str(snapshot)
            yield from _entry(finding.folder(snapshot, "hub"), "hub", name if current else f"{name}@{snapshot.name}")


def _demo() -> Iterator[Entry]:
    try:
        yield from _entry(finding.find(str(demo_file())), "file", "demo")
    except UserError:
        return  # it is not installed


def _in(folder: str) -> Iterator[Entry]:
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise UserError(f"--folder {folder}: there is no such folder")
    for each in (path, *sorted(path.iterdir())):
        if each.suffix == ".gguf":
            yield from _entry(finding.find(str(each)), "file", str(each))
        elif each.is_dir() and any(each.glob(WEIGHT_FILES)):
            yield from _entry(finding.folder(each), "folder", str(each))


def _converted() -> Iterator[Entry]:
    for folder in sorted((cache_folder() / "gguf").glob("*")):
        if folder.is_dir():
            yield from _entry(finding.folder(folder), "converted", f"{folder.name.rpartition('-')[0]}.gguf")


def _kept() -> Iterator[Entry]:
    for folder in sorted(kept_folder().glob("*")):
        indices = list(_indices(folder))
        if indices:
            held = sum(span.length for index in indices for span in index.tensors.values())
            yield Entry(indices[0].model, "kept", held, str(folder))


def _indices(folder: Path) -> Iterator[Index]:
    for file in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError, ValueError, msgspec.MsgspecError):  # damaged: removed when it is next used
            yield index_of(file)


def _entry(found: Model, kind: Kind, name: str) -> Iterator[Entry]:
    if found.digest and (found.weight_bytes or found.missing) and not found.problem:
        yield Entry(name, kind, found.weight_bytes, found.place, len(found.missing))
