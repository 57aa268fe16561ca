"""A Mach-O file's code signature: the digest of each page of the file. arm64 runs nothing whose pages do not match.

The layout is that of Apple's cs_blobs.h: a super blob of blobs, one of them the code directory; all big-endian.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from pathlib import Path

from macho import Signature

_SUPER_BLOB = 0xFADE0CC0
_CODE_DIRECTORY = 0xFADE0C02
_SLOT_OF_CODE_DIRECTORY = 0
_ALGORITHMS = {1: ("sha1", 20), 2: ("sha256", 32), 3: ("sha256", 20), 4: ("sha384", 48)}
"""By hash type: algorithm, and how many bytes of it are kept."""


@dataclass(frozen=True)
class CodeDirectory:
    """The digests of a file's pages."""

    limit: int
    """How many bytes of the file are covered."""
    page_size: int
    algorithm: int
    first_digest: int
    """Offset of the first page's digest in the file's signed part."""
    pages: int

    def digest(self, content: bytes, page: int) -> bytes:
        """What the digest of `page` ought to be."""
        name, length = _ALGORITHMS[self.algorithm]
        start = page * self.page_size
        return hashlib.new(name, content[start : min(start + self.page_size, self.limit)]).digest()[:length]

    def place(self, page: int) -> slice:
        """Where the digest of `page` lies."""
        length = _ALGORITHMS[self.algorithm][1]
        return slice(self.first_digest + page * length, self.first_digest + (page + 1) * length)


def code_directory(content: bytes, offset: int) -> CodeDirectory:
    """The code directory of the signature at `offset`. Raises ValueError when there is none."""
    try:
        magic, _, count = struct.unpack_from(">III", content, offset)
        blobs = dict(struct.unpack_from(">II", content, offset + 12 + 8 * index) for index in range(count))
        at = offset + blobs[_SLOT_OF_CODE_DIRECTORY]
        kind, _, _, _, first, _, _, pages, limit = struct.unpack_from(">9I", content, at)
        _, algorithm, _, page_bits = struct.unpack_from(">4B", content, at + 36)
    except (struct.error, KeyError) as error:
        raise ValueError("the signature is cut off") from error
    if magic != _SUPER_BLOB or kind != _CODE_DIRECTORY or algorithm not in _ALGORITHMS:
        raise ValueError("the signature is damaged")
    return CodeDirectory(limit, 1 << page_bits, algorithm, at + first, pages)


def fault(path: Path, signature: Signature) -> str | None:
    """What is wrong with the file's signature, if anything."""
    content = path.read_bytes()[signature.start :]
    try:
        directory = code_directory(content, signature.offset)
    except ValueError as error:
        return str(error)
    if directory.limit != signature.offset or directory.pages * directory.page_size < directory.limit:
        return f"signed are {directory.limit} bytes, not the {signature.offset} before the signature"
    for page in range(directory.pages):
        if content[directory.place(page)] != directory.digest(content, page):
            return f"changed after it was signed, at byte {signature.start + page * directory.page_size}"
    return None
