"""A model of which this rank has nothing: rank 0 gives it the small files, and of the weights the tensors it wants."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn

from mlxserve.config import Dtype
from mlxserve.errors import RankLost
from mlxserve.models.folder import ModelSource
from mlxserve.models.loading import load_lazily
from mlxserve.models.progress import Progress, Report
from mlxserve.models.supply.kept import KeptWeights
from mlxserve.models.supply.line import Range
from mlxserve.models.supply.taker import Taker
from mlxserve.models.weight_header import LENGTH_BYTES, WeightHeader, length_told

logger = logging.getLogger("mlxserve.engine")


class SuppliedSource(ModelSource):
    """`folder` is a temporary one, whose weight files are holes; the tensors are in memory alone, or `kept`, too."""

    def __init__(self, name: str, taker: Taker, kept: KeptWeights | None = None) -> None:
        """`name` is the model's in errors. Raises UserError, RankLost."""
        self._name = name
        self._taker = taker
        self._kept = kept
        self._temporary = tempfile.TemporaryDirectory(prefix="mlxserve-")
        folder = Path(self._temporary.name)
        self._headers = _take_files(taker, folder)
        self._held: dict[str, mx.array] = {}
        super().__init__(folder)

    def fetch(self, wanted: Callable[[str], bool], report: Report) -> bool:
        ranges = {
            Range(file, start, length): name
            for file, header in self._headers.items()
            for name, (start, length) in header.tensors.items()
            if length and wanted(name) and name not in self._held
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


def _take_files(taker: Taker, folder: Path) -> dict[str, WeightHeader]:
    """Fill `folder` with rank 0's small files and with holes for its weights. Returns the headers of these."""
    small, weights = taker.offer.small, list(taker.offer.weights)
    for name in (*small, *weights):
        if Path(name).name != name:
            raise RankLost(f"rank 0 offers {name!r}, which is no name of a file")
    contents = taker.bytes_of([Range(name, 0, size) for name, size in small.items()])
    for name, content in zip(small, contents, strict=True):
        (folder / name).write_bytes(content)
    beginnings = taker.bytes_of([Range(file, 0, LENGTH_BYTES) for file in weights])
    lengths = map(length_told, beginnings)
    texts = taker.bytes_of([Range(file, LENGTH_BYTES, length) for file, length in zip(weights, lengths, strict=True)])
    headers = {file: WeightHeader.parse(text) for file, text in zip(weights, texts, strict=True)}
    for file, header in headers.items():
        header.write_stand_in(folder / file)
    return headers
