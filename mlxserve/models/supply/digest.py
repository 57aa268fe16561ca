"""The digest of what passes, computed while it does."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor

DIGEST_BYTES = hashlib.sha256().digest_size


class Digesting:
    """Makes SHA-256 digests one after the other, in a thread of its own: neither network nor disk waits for it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "digest")
        self._hash = hashlib.sha256()
        self._last: Future[None] | None = None

    def add(self, piece: memoryview) -> None:
        """Take in the next piece, which must not change until the one after it is added; waits for the one before."""
        self._wait()
        self._last = self._pool.submit(self._hash.update, piece)

    def take(self) -> bytes:
        """The digest of all pieces since the last one was taken."""
        self._wait()
        digest, self._hash = self._hash.digest(), hashlib.sha256()
        return digest

    def close(self) -> None:
        """Let the thread end."""
        self._pool.shutdown(wait=False)

    def _wait(self) -> None:
        if self._last:
            self._last.result()
            self._last = None
