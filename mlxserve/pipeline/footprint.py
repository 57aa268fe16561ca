"""What sequences cost a rank in memory: known from the shapes of its caches, before the first request."""

from __future__ import annotations

import msgspec


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
