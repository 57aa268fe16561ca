"""Memory for KV caches: what each rank has, what running sequences take, and who can be let in."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from mlxserve.config import Settings
from mlxserve.engine.prefill import MOST_CHUNK_TOKENS
from mlxserve.pipeline.footprint import Footprint
from mlxserve.pipeline.row_cache import STEP

KV_SHARE = 0.6
"""Of the memory that is free after loading, what running sequences may take…"""
PREFIX_SHARE = 0.25
"""…and stored prefixes; the rest is for activations and for what is only there for a moment."""

GROWTH = 1.1
"""What is allocated at most, for what is in use: a layer's arrays are there twice while they grow."""

ANSWER_SHARE = 0.25
"""Of the tokens an answer may have, those for which there must be room when its prompt is admitted…"""
MOST_ANSWER = 1024
"""…but no more than so many: the bound of most requests is far above what they use."""


@dataclass(frozen=True)
class Bound:
    """Bytes that caches of one kind of sequence may take on one rank."""

    footprint: Footprint
    bytes: int


def bounds(settings: Settings, footprint: Footprint, free_bytes: int) -> tuple[Bound, Bound]:
    """One rank's bounds for running sequences and for stored prefixes.

    `free_bytes` of 0: not known. Then only what the settings bound is bounded, and no prefixes are stored by default.
    """
    running, stored = settings.kv_cache_bytes, settings.prefix_cache_bytes
    usable = int((KV_SHARE + PREFIX_SHARE) * free_bytes)
    if not running:
        running = int(KV_SHARE * free_bytes) if stored < 0 else max(0, usable - stored)
        running = running if free_bytes else sys.maxsize
    if stored < 0:
        stored = max(0, min(int(PREFIX_SHARE * free_bytes), usable - running))
    return Bound(footprint, running), Bound(footprint, stored)


class Ledger:
    """What running sequences take of the memory of every rank. Lengths are in tokens, prompt and answer so far."""

    def __init__(self, ranks: Sequence[Bound], chunk: int = MOST_CHUNK_TOKENS) -> None:
        """`chunk`: the most tokens that one pass reads."""
        self._ranks = list(ranks)
        self._chunk = chunk
        self.longest = self._longest()
        """Tokens of the longest sequence that fits when it is alone; 0: none does."""

    def bytes_of(self, lengths: Sequence[int]) -> list[int]:
        """What a batch with rows of these lengths has allocated at most, on each rank."""
        return [int(self._bytes_on(rank.footprint, list(lengths)) * GROWTH) for rank in self._ranks]

    def held(self, batches: Sequence[Sequence[int]]) -> list[int]:
        """Bytes of the caches of batches with rows of these lengths, on each rank, between two passes."""
        return [sum(rank.footprint.batch_bytes(list(lengths)) for lengths in batches) for rank in self._ranks]

    def share(self, held: Sequence[int]) -> float:
        """Of what running sequences may take, what they have where so much is `held`; of the fullest rank, 0 to 1."""
        return max((min(1.0, taken / rank.bytes) for taken, rank in zip(held, self._ranks, strict=True)), default=0.0)

    def fits(self, *batches: Sequence[int]) -> bool:
        """Whether batches with rows of these lengths fit every rank together."""
        taken = [sum(rank) for rank in zip(*map(self.bytes_of, batches), strict=True)]
        return all(size <= rank.bytes for size, rank in zip(taken, self._ranks, strict=False))

    def admits(self, running: Sequence[int], prompt_length: int, max_tokens: int) -> bool:
        """Whether another sequence can be let in beside those running, with a share of its answer.

        Beside none, what fits at all is let in.
        """
        if not running:
            return prompt_length <= self.longest
        answer = min(int(ANSWER_SHARE * max_tokens), MOST_ANSWER)
        soon = [length + STEP for length in running]
        return self.fits([*soon, prompt_length + answer])

    def _bytes_on(self, footprint: Footprint, lengths: list[int]) -> int:
        return footprint.batch_bytes(lengths) + footprint.chunk_bytes(lengths, self._chunk)

    def _longest(self) -> int:
        """By halving; capacities are multiples of a step, and one token of them stays free."""
        least, most = 0, 1 << 32
        while least < most:
            middle = (least + most + 1) // 2
            if self.fits([middle * STEP - 1]):
                least = middle
            else:
                most = middle - 1
        return max(0, least * STEP - 1)
