"""What a worker keeps on disk of what rank 0 gave it, for `--keep-weights`: that of one model, checked when read.

A file has the tensors of one transfer: their bytes, then an index of them, then the index's digest and its length.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import mlx.core as mx
import msgspec

from mlxserve.models.cache import cache_folder

logger = logging.getLogger("mlxserve.engine")

SUFFIX = ".weights"
_LENGTH_BYTES = 8
_TRAILER_BYTES = hashlib.sha256().digest_size + _LENGTH_BYTES


class Span(msgspec.Struct, frozen=True, array_like=True):
    """Where a tensor is in the file, and the digest of its bytes."""

    start: int
    length: int
    digest: bytes


class Index(msgspec.Struct, frozen=True):
    """What a file has."""

    model: str
    """As `--model` named it."""
    tensors: dict[str, Span]


def kept_folder() -> Path:
    """Where each model's folder is, one as a rule."""
    return cache_folder() / "weights"


class KeptWeights:
    """Those of one model, by all ranks of this machine."""

    def __init__(self, model: str, identity: str, rank: int) -> None:
        """`identity` tells rank 0's files from all others. What is kept of other models is removed."""
        self._model = model
        self._rank = rank
        self._folder = kept_folder() / f"{re.sub(r'[^A-Za-z0-9.-]+', '-', model).strip('-')[-40:]}-{identity}"
        with suppress(OSError):
            for other in kept_folder().iterdir():
                if other != self._folder:
                    shutil.rmtree(other, ignore_errors=True)

    def read(self, names: set[str]) -> dict[str, mx.array]:
        """The bytes of those tensors among `names` that are kept. A damaged file is removed, with a warning."""
        found: dict[str, mx.array] = {}
        for path in sorted(self._folder.glob(f"*{SUFFIX}")):
            try:
                found |= _read_of(path, names - found.keys())
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                logger.warning("kept weights %s are removed, and taken from rank 0 again: %s", path, error)
                _remove(path)
        return found

    def begin(self, size: int) -> Keeping | None:
        """Keep a transfer of `size` bytes of tensors; None, with a warning, where the disk has no room for it."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._folder).free
            if free < size:
                _warn(self._folder, f"they take {size:,} bytes, and the disk has {free:,} left")
                return None
            return Keeping(self._model, self._folder / f"rank{self._rank}.part")
        except OSError as error:
            _warn(self._folder, error.strerror or str(error))
            return None


class Keeping:
    """Writes one transfer. Where the disk fails, nothing is kept, with a warning, and serving goes on."""

    def __init__(self, model: str, path: Path) -> None:
        """`path` has it until it is whole. Raises OSError."""
        self._model = model
        self._path = path
        self._tensors: dict[str, Span] = {}
        self._file: BinaryIO | None = path.open("wb")

    def add(self, name: str, content: memoryview, digest: bytes) -> None:
        """Write a tensor's bytes."""
        if self._file is None:
            return
        try:
            span = Span(self._file.tell(), len(content), digest)
            self._file.write(content)
            self._tensors[name] = span
        except OSError as error:
            self._give_up(error)

    def finish(self) -> None:
        """Write the index. Only then is any of it kept."""
        if self._file is None:
            return
        index = msgspec.msgpack.encode(Index(self._model, self._tensors))
        digest = hashlib.sha256(index)
        try:
            with self._file as file:
                file.write(index + digest.digest() + len(index).to_bytes(_LENGTH_BYTES, "little"))
                file.flush()
                os.fsync(file.fileno())
            self._path.rename(self._path.with_name(digest.hexdigest()[:16] + SUFFIX))
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        assert self._file is not None
        with suppress(OSError):
            self._file.close()
        self._file = None
        _remove(self._path)
        _warn(self._path.parent, error.strerror or str(error))


def index_of(path: Path) -> Index:
    """What a file has. Raises OSError, ValueError or MsgspecError if it is damaged."""
    with path.open("rb") as file:
        return _index_of(file)


def _index_of(file: BinaryIO) -> Index:
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _TRAILER_BYTES))
    trailer = file.read()
    digest, length = trailer[:-_LENGTH_BYTES], int.from_bytes(trailer[-_LENGTH_BYTES:], "little")
    if length > end - _TRAILER_BYTES:
        raise ValueError("its end is damaged")
    file.seek(end - _TRAILER_BYTES - length)
    content = file.read(length)
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("its index is damaged")
    return msgspec.msgpack.decode(content, type=Index)


def _read_of(path: Path, names: set[str]) -> dict[str, mx.array]:
    found = {}
    with path.open("rb") as file:
        for name, span in _index_of(file).tensors.items():
            if name in names:
                found[name] = _read(file, name, span)
    return found


def _read(file: BinaryIO, name: str, span: Span) -> mx.array:
    content = mx.zeros(span.length, mx.uint8)
    mx.eval(content)
    place = memoryview(content)  # type: ignore[arg-type]
    file.seek(span.start)
    file.readinto(place)  # type: ignore[attr-defined]
    if hashlib.sha256(place).digest() != span.digest:
        raise ValueError(f"{name} is damaged")
    return content


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def _warn(folder: Path, reason: str) -> None:
    logger.warning("the weights are not kept in %s: %s", folder, reason)
