"""What this machine has of a model, told by names and sizes alone: no weights are read, nothing is downloaded."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path

from huggingface_hub import constants

from mlxserve.errors import UserError
from mlxserve.launch.check.messages import Model
from mlxserve.models.demo import demo_file

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_HEAD_BYTES = 1 << 20
_WEIGHT_FILES = "model*.safetensors"
_INDEX = "model.safetensors.index.json"


def find(model: str) -> Model:
    """What there is of what `--model` names, which is understood as by models/source.py."""
    if model == "demo":
        try:
            return _file(demo_file())
        except UserError as error:
            return Model("file", "demo", problem=str(error))
    path = Path(model).expanduser()
    if os.path.isdir(path):
        return folder(path)
    if os.path.isfile(path):
        return _file(path)
    if (
        _HUB_ID.fullmatch(model)
        and not model.startswith(("./", "../"))
        and path.suffix not in (".gguf", ".safetensors")
    ):
        return _hub(model)
    return Model("file" if path.suffix == ".gguf" else "folder", model, problem="is not there")


def _file(path: Path) -> Model:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return Model("file", str(path), problem=f"cannot be read: {error.strerror}")
    if not head.startswith(b"GGUF"):
        return Model("file", str(path), problem="is no GGUF file")
    size = path.stat().st_size
    return Model("file", str(path), digest=_digest(head + str(size).encode()), weight_bytes=size)


def folder(path: Path, kind: str = "folder") -> Model:
    """What there is in a folder."""
    try:
        config = (path / "config.json").read_bytes()
    except OSError as error:
        return Model(kind, str(path), problem=f"has no config.json that can be read: {error.strerror}")
    present = {file.name: file.stat().st_size for file in path.glob(_WEIGHT_FILES) if os.path.exists(file)}
    missing = tuple(sorted(_indexed(path) - set(present)))
    problem = "" if present or missing or kind == "hub" else f"has no weights ({_WEIGHT_FILES})"
    return Model(kind, str(path), problem, _digest(config), sum(present.values()), missing)


def _hub(model: str) -> Model:
    """A repository of which the hub's cache may have a snapshot."""
    repository, _, revision = model.partition("@")
    cached = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    try:
        commit = (cached / "refs" / (revision or "main")).read_text().strip()
    except OSError:
        commit = revision
    snapshot = cached / "snapshots" / commit
    found = folder(snapshot, "hub") if commit and os.path.exists(snapshot / "config.json") else Model("hub", "")
    token = os.environ.get("HF_TOKEN") or os.path.exists(constants.HF_TOKEN_PATH)
    return Model(
        "hub", found.place, digest=found.digest, weight_bytes=found.weight_bytes, missing=found.missing,
        offline=constants.HF_HUB_OFFLINE, has_token=bool(token),
    )  # fmt: skip


def _indexed(folder: Path) -> set[str]:
    """The weight files that the index names, where there is one."""
    try:
        return set(json.loads((folder / _INDEX).read_bytes())["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:12]
