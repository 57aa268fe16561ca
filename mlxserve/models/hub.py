"""A model on the Hugging Face hub: small files at once, weights file by file as they are wanted."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path

import mlx.nn as nn
from huggingface_hub import get_cached_repo_tree, hf_hub_download, snapshot_download
from huggingface_hub.errors import CachedRepoTreeNotFoundError

from mlxserve.config import Dtype
from mlxserve.errors import UserError
from mlxserve.models.folder import SMALL_FILES, WEIGHT_FILES, ModelSource
from mlxserve.models.hub_errors import explained
from mlxserve.models.loading import load_lazily
from mlxserve.models.progress import HiddenBar, Report, reporting_bar
from mlxserve.models.remote_header import remote_header
from mlxserve.models.weight_header import WeightHeader

INDEX = "model.safetensors.index.json"
HEADERS_AT_ONCE = 8


class HubSource(ModelSource):
    """A repository at one commit; `folder` is its snapshot in the hub's own cache, which other programs share."""

    def __init__(self, repository: str, revision: str | None, report: Report, here_only: bool = False) -> None:
        """`here_only`: without asking the hub. Raises UserError."""
        self.repository = repository
        self.name = repository if revision is None else f"{repository}@{revision}"
        if not here_only:
            report(f"{self.name}: looking it up on the hub")
        with explained(self.name):
            folder = snapshot_download(
                repository,
                revision=revision,
                allow_patterns=SMALL_FILES,
                tqdm_class=HiddenBar,
                local_files_only=here_only,
            )
        super().__init__(Path(folder))
        if not self.weight_files:
            raise UserError(f"{self.name} has no weights that mlx-lm can read ({WEIGHT_FILES}): choose an MLX model.")

    @property
    def commit(self) -> str:
        return self.folder.name

    @cached_property
    def weight_files(self) -> tuple[str, ...]:
        try:
            tree = get_cached_repo_tree(self.repository, revision=self.commit)
            names = {file.path for file in tree}
        except CachedRepoTreeNotFoundError:  # the snapshot is older than huggingface_hub 2
            names = {path.name for path in self.folder.iterdir()} | set(self._index.values())
        return tuple(sorted(name for name in names if fnmatch(name, WEIGHT_FILES) and "/" not in name))

    def fetch(self, wanted: Callable[[str], bool], report: Report) -> bool:
        missing = [file for file in self._files_with(wanted) if not self.is_here(file)]
        for file in missing:
            self.bring(file, report)
        return bool(missing)

    def bring(self, file: str, report: Report) -> Path:
        if not self.is_here(file):
            with explained(self.name):
                hf_hub_download(self.repository, file, revision=self.commit, tqdm_class=reporting_bar(file, report))
        return self.folder / file

    def load(self, dtype: Dtype) -> nn.Module:
        absent = [file for file in self.weight_files if not self.is_here(file)]
        for file in set(self.weight_files).difference(absent):
            WeightHeader.read(self.folder / file)
        if not absent:
            return load_lazily(self.folder, dtype, self.name)
        # The lazy arrays hold the files open, so the folder may go once they are made.
        with tempfile.TemporaryDirectory(prefix="mlxserve-") as folder:
            self._stand_in(Path(folder), absent)
            return load_lazily(Path(folder), dtype, self.name)

    def is_here(self, file: str) -> bool:
        return (self.folder / file).exists()

    def _files_with(self, wanted: Callable[[str], bool]) -> list[str]:
        if set(self._index.values()) == set(self.weight_files):
            return sorted({file for tensor, file in self._index.items() if wanted(tensor)})
        headers = self._headers(self.weight_files)
        return [file for file in self.weight_files if any(map(wanted, headers[file].tensors))]

    @cached_property
    def _index(self) -> dict[str, str]:
        """The file that holds each tensor, where the repository says so."""
        path = self.folder / INDEX
        try:
            weight_map: dict[str, str] = json.loads(path.read_bytes())["weight_map"]
        except (FileNotFoundError, ValueError, KeyError):
            return {}
        return weight_map

    def _headers(self, files: tuple[str, ...] | list[str]) -> dict[str, WeightHeader]:
        with ThreadPoolExecutor(HEADERS_AT_ONCE) as pool:
            return dict(zip(files, pool.map(self._header, files), strict=True))

    def _header(self, file: str) -> WeightHeader:
        if self.is_here(file):
            return WeightHeader.read(self.folder / file)
        with explained(self.name):
            return remote_header(self.repository, self.commit, file)

    def _stand_in(self, folder: Path, absent: list[str]) -> None:
        """Fill `folder` with links to what is here, and with zeros for the weight files that are not."""
        for path in self.folder.glob("*.json"):
            (folder / path.name).symlink_to(path.resolve())
        for file in set(self.weight_files).difference(absent):
            (folder / file).symlink_to((self.folder / file).resolve())
        for file, header in self._headers(absent).items():
            header.write_stand_in(folder / file)
