"""A rank's stored segments as its disk has them, of which a crash loses what was written last."""

from __future__ import annotations

from mlxserve.pipeline.segment_bytes import packed, unpacked
from mlxserve.pipeline.segments import Segment

_INDEX = "index"


class CrashingDisk:
    """Takes the place of `SegmentFiles`: what is written and removed gets to the disk in that order, some time."""

    def __init__(self) -> None:
        self._written: dict[str, bytes] = {}
        self._queue: list[tuple[str, bytes | None]] = []

    def write(self, key: str, segment: Segment) -> None:
        """See SegmentFiles."""
        self._queue.append((key, packed(key, segment)))

    def remove(self, key: str) -> None:
        """See SegmentFiles."""
        self._queue.append((key, None))

    def write_index(self, content: bytes) -> None:
        """See SegmentFiles."""
        self._queue.append((_INDEX, content))

    def read_index(self) -> bytes:
        """See SegmentFiles."""
        return self._written.get(_INDEX, b"")

    def crash(self, lost: int) -> None:
        """The last `lost` of what was to be written or removed never is."""
        for key, content in self._queue[: max(0, len(self._queue) - lost)]:
            if content is None:
                self._written.pop(key, None)
            else:
                self._written[key] = content
        self._queue.clear()

    def read(self) -> dict[str, Segment]:
        """What a former run left."""
        return dict(unpacked(content) for key, content in self._written.items() if key != _INDEX)
