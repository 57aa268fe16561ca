"""Segments on disk, to outlive a restart: one file each, in a folder that is this rank's part of one model's alone."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import msgspec

from mlxserve.pipeline.safe_file import read_whole, write_whole
from mlxserve.pipeline.segment_bytes import packed, unpacked
from mlxserve.pipeline.segments import Segment

logger = logging.getLogger("mlxserve.engine")

_SUFFIX = ".segment"
_INDEX = "index"
_LAST_SECONDS = 2.0
_MOST_UNWRITTEN = 1 << 29
"""Bytes that may wait for a slow disk; what comes then is not written."""


class SegmentFiles:
    """Reads at start; from then on writes and removes in a thread of its own, which sees bytes and never arrays."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._unwritten = 0
        self._counting = threading.Lock()
        self._failed = False
        threading.Thread(target=self._run, daemon=True, name="segment-files").start()

    def read(self, bound: int) -> dict[str, Segment]:
        """What a former run left, newest first, up to `bound` bytes. All else is removed."""
        found: dict[str, Segment] = {}
        held = 0
        for path in self._newest_first():
            try:
                key, segment = self._read_one(path)
                if held + segment.nbytes > bound:
                    raise ValueError(f"stored prefixes may take no more than {bound} bytes")
            except (OSError, ValueError, KeyError, msgspec.MsgspecError) as error:
                logger.warning("stored prefix %s is removed: %s", path, error)
                self._remove(path)
                continue
            found[key] = segment
            held += segment.nbytes
        return found

    def write(self, key: str, segment: Segment) -> None:
        """Keep `segment`, instead of what was kept under `key`; waits until it is computed, not until it is written."""
        if not self._failed:
            self._write(self._path(key), packed(key, segment))

    def remove(self, key: str) -> None:
        """Keep it no longer."""
        path = self._path(key)
        self._work.put(lambda: self._remove(path))

    def write_index(self, content: bytes) -> None:
        """Keep `content`, a small text about the segments, after all that was to be kept before."""
        self._write(self._folder / _INDEX, content)

    def read_index(self) -> bytes:
        """What `write_index` kept last; nothing where there is none, or a damaged one."""
        try:
            return read_whole(self._folder / _INDEX)
        except (OSError, ValueError):
            return b""

    def flush(self, seconds: float | None = None) -> None:
        """Wait until everything is on disk, but no longer than that."""
        done = threading.Event()
        self._work.put(done.set)
        done.wait(seconds)

    def close(self) -> None:
        """Let what is still to be written be written, as far as the end of the process may wait for it."""
        self.flush(_LAST_SECONDS)

    def _newest_first(self) -> list[Path]:
        with contextlib.suppress(OSError):
            times = {path: path.stat().st_mtime_ns for path in self._folder.iterdir() if path.name != _INDEX}
            return sorted(times, key=lambda path: -times[path])
        return []

    def _read_one(self, path: Path) -> tuple[str, Segment]:
        """Raises OSError, ValueError, KeyError or MsgspecError if it is no segment, or not a whole one."""
        if path.suffix != _SUFFIX:
            raise ValueError("it was not written to its end")
        key, segment = unpacked(read_whole(path))
        if path != self._path(key):
            raise ValueError("it has the name of another")
        return key, segment

    def _path(self, key: str) -> Path:
        return self._folder / (hashlib.blake2b(key.encode(), digest_size=16).hexdigest() + _SUFFIX)

    def _write(self, path: Path, content: bytes) -> None:
        if self._failed or self._unwritten + len(content) > _MOST_UNWRITTEN:
            self._work.put(lambda: self._remove(path))  # what was kept under this name is out of date
            return
        with self._counting:
            self._unwritten += len(content)
        self._work.put(lambda: self._write_now(path, content))

    def _write_now(self, path: Path, content: bytes) -> None:
        with self._counting:
            self._unwritten -= len(content)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_whole(path, content)
        except OSError as error:
            self._remove(path)
            if not self._failed:
                self._failed = True
                logger.warning("stored prefixes are no longer kept on disk, for %s: %s", path.parent, error.strerror)

    def _remove(self, path: Path) -> None:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            self._work.get()()


def on_all_ranks(stored: list[dict[str, int]]) -> dict[str, int]:
    """Of the segments that each rank has, with their lengths, those that all have alike."""
    first, *others = stored
    return {key: tokens for key, tokens in first.items() if all(other.get(key) == tokens for other in others)}
