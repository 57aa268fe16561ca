"""Finding the model that `--model` names: the demo, a GGUF file, a folder, or a repository on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from mlxserve.errors import UserError
from mlxserve.models.demo import demo_file
from mlxserve.models.folder import ModelSource, open_folder
from mlxserve.models.gguf_folder import folder_of
from mlxserve.models.hub import HubSource
from mlxserve.models.progress import Report

__all__ = ["ModelSource", "Report", "find_model"]

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")


def find_model(model: str, report: Report) -> ModelSource:
    """What `model` names, ready to fetch and load. Raises UserError if there is no such model, or a broken one."""
    if found := find_on_disk(model, report):
        return found
    repository, revision = repository_of(model)
    return HubSource(repository, revision, report)


def find_on_disk(model: str, report: Report) -> ModelSource | None:
    """What `model` names, where that is a file, a folder or the demo. Raises UserError if it is a broken one."""
    if model == "demo":
        return open_folder(folder_of(demo_file(), report))
    path = Path(model).expanduser()
    try:
        if path.is_dir():
            return open_folder(path)
        if path.is_file():
            return open_folder(folder_of(_gguf_only(path), report))
    except PermissionError as error:
        raise UserError(f"{model} cannot be read: {error.strerror}: {error.filename}") from error
    return None


def repository_of(model: str) -> tuple[str, str | None]:
    """The repository on the hub, and its revision, that `model` names. Raises UserError if it cannot be one."""
    if _means_a_path(model) or not HUB_ID.fullmatch(model):
        raise UserError(
            f"There is no model at {model!r}: name a folder, a .gguf file, "
            'a Hugging Face repository like "mlx-community/Qwen3-1.7B-8bit", or "demo".'
        )
    repository, _, revision = model.partition("@")
    return repository, revision or None


def _means_a_path(model: str) -> bool:
    return model.startswith(("/", "./", "../", "~")) or model.endswith((".gguf", ".safetensors", "/"))


def _gguf_only(path: Path) -> Path:
    if path.suffix.lower() != ".gguf":
        raise UserError(
            f"{path} is no .gguf file: name a .gguf file, or the folder that holds the model's config.json."
        )
    return path
