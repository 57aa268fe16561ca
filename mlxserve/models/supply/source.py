"""A model that is not wholly here: rank 0 gives the small files, and of the weights the tensors that are wanted."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from mlxserve.config import Dtype
from mlxserve.errors import RankLost, UserError
from mlxserve.models.folder import ModelSource
from mlxserve.models.loading import load_lazily
from mlxserve.models.progress import Progress, Report
from mlxserve.models.supply.kept import KeptWeights
from mlxserve.models.supply.line import Range
from mlxserve.models.supply.taker import Taker
from mlxserve.models.weight_header import LENGTH_BYTES, WeightHeader, length_told

logger = logging.getLogger("mlxserve.engine")

_PREFIX = "mlxserve-given-"


class SuppliedSource(ModelSource):
    """`folder` is a temporary one, whose weight files are holes; what is given is in memory alone, or `kept`, too."""

    def __init__(
        self, name: str, taker: Taker, kept: KeptWeights | None = None, near: Mapping[str, Path] | None = None
    ) -> None:
        """`name` is the model's in errors; `near` are weight files that are here. Raises UserError, RankLost."""
        self._name = name
        self._taker = taker
        self._kept = kept
        self._near = near or {}
        self._held: dict[str, mx.array] = {}
        _remove_leftovers()
        try:
            self._temporary = tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-")
            super().__init__(self._filled(Path(self._temporary.name)))
        except OSError as error:
            raise UserError(
                f"{tempfile.gettempdir()} does not take the small files of {name}: {error.strerror}; make room there, "
                "or set TMPDIR to another folder."
            ) from error

    def fetch(self, wanted: Callable[[str], bool], report: Report) -> bool:
        ranges = {
            Range(file, start, length): name
            for file, header in self._headers.items()
            for name, (start, length) in header.tensors.items()
            if length and wanted(name) and name not in self._held and file not in self._near
        }
        if self._kept:
            self._held |= self._kept.read(set(ranges.values()))
        missing = {where: name for where, name in ranges.items() if name not in self._held}
        if missing:
            self._take(missing, report)
        return bool(ranges)

    def load(self, dtype: Dtype) -> nn.Module:
        return load_lazily(self.folder, dtype, self._name, self._held)

    def close(self) -> None:
        self._held.clear()
        self._taker.close()
        self._temporary.cleanup()

    def _filled(self, folder: Path) -> Path:
        """Put rank 0's small files into `folder`, and holes in place of weights that are not here."""
        small, weights = self._taker.offer.small, list(self._taker.offer.weights)
        for name in (*small, *weights):
            if Path(name).name != name:
                raise RankLost(f"rank 0 offers {name!r}, which is no name of a file")
        contents = self._taker.bytes_of([Range(name, 0, size) for name, size in small.items()])
        for name, content in zip(small, contents, strict=True):
            (folder / name).write_bytes(content)
        self._headers = self._taken_headers(weights)
        for file, header in self._headers.items():
            if file in self._near:
                (folder / file).symlink_to(self._near[file].resolve())
            else:
                header.write_stand_in(folder / file)
        return folder

    def _taken_headers(self, files: list[str]) -> dict[str, WeightHeader]:
        beginnings = self._taker.bytes_of([Range(file, 0, LENGTH_BYTES) for file in files])
        ranges = [
            Range(file, LENGTH_BYTES, length_told(beginning)) for file, beginning in zip(files, beginnings, strict=True)
        ]
        texts = self._taker.bytes_of(ranges)
        return {file: WeightHeader.parse(text) for file, text in zip(files, texts, strict=True)}

    def _take(self, missing: dict[Range, str], report: Report) -> None:
        began, total, done = time.monotonic(), sum(where.length for where in missing), 0
        progress = Progress(report)
        keeping = self._kept.begin(total) if self._kept else None

        def store(where: Range, content: mx.array, digest: bytes) -> None:
            nonlocal done
            self._held[missing[where]] = content
            if keeping:
                keeping.add(missing[where], memoryview(content), digest)  # type: ignore[arg-type]
            done += where.length
            progress.say("weights from rank 0", done, total)

        self._taker.take(list(missing), store)
        if keeping:
            keeping.finish()
        seconds = time.monotonic() - began
        logger.info("took %s bytes of weights from rank 0 in %.1f s", f"{total:,}", seconds)


def _remove_leftovers() -> None:
    """Of processes that were ended while they loaded."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        try:
            os.kill(int(folder.name.removeprefix(_PREFIX).partition("-")[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except (ValueError, PermissionError):
            continue  # not one of this user's
