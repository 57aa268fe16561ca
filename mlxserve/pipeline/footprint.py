"""What sequences cost a rank in memory: known from the shapes of its caches, before the first request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from mlx_lm.models.cache import ArraysCache, KVCache

from mlxserve.pipeline.row_cache import RowCache, capacity_for


class Footprint(msgspec.Struct, frozen=True):
    """Bytes that the caches of one rank take, all its layers together."""

    token_bytes: int = 0
    """For each token of a sequence."""
    windows: list[tuple[int, int]] = []
    """Bytes for each token up to a number of tokens, after which no more are kept: caches that rotate."""
    sequence_bytes: int = 0
    """For each sequence, however long: recurrent states."""

    def bytes_of(self, tokens: int) -> int:
        """What a sequence of `tokens` takes."""
        windows = sum(each * min(tokens, most) for each, most in self.windows)
        return self.sequence_bytes + self.token_bytes * tokens + windows

    def batch_bytes(self, lengths: list[int]) -> int:
        """What a batch takes whose rows have `lengths` tokens: every row has the room of the longest."""
        return len(lengths) * self.bytes_of(capacity_for(max(lengths, default=0)))

    def chunk_bytes(self, lengths: list[int], chunk: int) -> int:
        """What such a batch takes beside that during a pass of at most `chunk` tokens of all its rows.

        Caches that rotate hold what is new beside their windows until the pass is over.
        """
        room = capacity_for(max(lengths, default=0))
        return sum(each * min(chunk, len(lengths) * max(0, room - most)) for each, most in self.windows)


def footprint_of(caches: Iterable[Any], tokens: int) -> Footprint:
    """That of `caches`, which hold one sequence of `tokens`; they need not be evaluated."""
    every_token = sequence = 0
    windows: dict[int, int] = {}
    for cache in caches:
        if isinstance(cache, ArraysCache):
            sequence += cache.nbytes
        elif most := getattr(cache, "max_size", 0) or getattr(cache, "chunk_size", 0):
            windows[most] = windows.get(most, 0) + _bytes_of_slot(cache)
        elif isinstance(cache, RowCache | KVCache):
            every_token += _bytes_of_slot(cache)
        else:
            every_token += -(-cache.nbytes // tokens)
    return Footprint(every_token, [(each, most) for most, each in sorted(windows.items())], sequence)


def _bytes_of_slot(cache: Any) -> int:
    """What one token takes in the buffers of `cache`, which hold one sequence."""
    arrays = cache.state if isinstance(cache, RowCache) else (cache.keys, cache.values)
    return sum(array.nbytes // array.shape[2] for array in arrays if array is not None)
