"""Prompts being read: which are read together, and in which chunks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import mlx.core as mx

from mlxserve.engine.pace import Pace
from mlxserve.engine.sequence import Sequence
from mlxserve.pipeline.pipeline import Work

MOST_PADDING = 0.5
"""Filling that is accepted for reading prompts together, as a share of their tokens."""
LONGEST_CHUNK_SECONDS = 1.0
"""About: so that progress is seen, and who leaves or comes is noticed, while a long prompt is read."""
CHUNKS_TOGETHER = 3
"""The longest chunks that prompts which are read together may take: who comes in a crowd waits for all of it, but then
all are decoded together, which costs little more than decoding the first of them."""
MOST_CHUNK_TOKENS = 2048
FEWEST_CHUNK_TOKENS = 32
CHUNK_STEP = 32
"""Chunks have whole multiples where several follow each other: MLX takes a freed buffer again only for an array of the
same size, and prompts hardly ever have the same length. Fresh memory costs a virtual machine 2 ms a megabyte."""
TAPERING = 0.3
"""Over several ranks each chunk is shorter than the one before, by this share over the number of ranks: the more tokens
are before it, the longer does each of its own take; of the last layer only the caches of a chunk are needed; and the
shorter the last chunk, the less do the ranks before it wait. The share that was best for two to four ranks where ticks
take `a + n (b + c before)` seconds."""
MOST_TOLD_TOKENS = 256
"""Of a prompt whose own likelihoods are wanted: the logits of each take as much as the vocabulary is large."""
_STEP_TRIED = 24
"""Tokens between the lengths of chunks that are compared: each costs about a microsecond, and this is asked often."""


@dataclass
class PromptBatch:
    """Prompts that are read as the rows of one batch: several short ones at once, or a long one chunk by chunk."""

    batch: int
    sequences: list[Sequence]
    borders: list[int] = field(default_factory=list)
    """Of a single row: numbers of tokens after which a chunk must end."""
    chunk: int = 0
    """The length of its chunks, once chosen."""
    begun: bool = False
    """Whether a chunk has been read."""

    @property
    def wholly_entered(self) -> bool:
        """Whether every chunk is on its way."""
        return all(sequence.unread == 0 for sequence in self.sequences)

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for any of these any more."""
        return all(sequence.done for sequence in self.sequences)

    @property
    def unread(self) -> int:
        """Tokens that the longest row has left."""
        return max(sequence.unread for sequence in self.sequences)

    @property
    def rows(self) -> int:
        """How many prompts."""
        return len(self.sequences)

    def next_chunk(self, size: int) -> Work:
        """The next at most `size` tokens of each row; logits are wanted of the last chunk.

        So the last chunk has at least one token of each row: a short row's waits for those of the longest.
        """
        self.begun = True
        size = min([size, *(border - self.sequences[0].read for border in self._borders_ahead)])
        if self.sequences[0].tells_prompt:
            size = min(size, MOST_TOLD_TOKENS)
        left = 0 if size >= self.unread else 1
        counts = [min(size, sequence.unread - left) for sequence in self.sequences]
        pieces = [one.tokens[one.read : one.read + count] for one, count in zip(self.sequences, counts, strict=True)]
        for sequence, piece in zip(self.sequences, pieces, strict=True):
            sequence.read += len(piece)
        lengths = [len(piece) for piece in pieces]
        width = max(lengths)
        rows = [piece + [0] * (width - len(piece)) for piece in pieces]
        padded = lengths if min(lengths) < width else []
        if self.sequences[0].tells_prompt:
            return Work(self.batch, mx.array(rows), padded, "all")
        return Work(self.batch, mx.array(rows), padded, "last" if self.wholly_entered else "none")

    @property
    def at_border(self) -> bool:
        """Whether what has been read ends where others are likely to begin."""
        return self.sequences[0].read in self.borders

    @property
    def _borders_ahead(self) -> list[int]:
        return [border for border in self.borders if border > self.sequences[0].read]

    def targets(self, work: Work) -> list[int]:
        """The prompt's tokens that follow those of `work`, the last chunk taken, if all its logits are wanted."""
        if work.logits != "all":
            return []
        (sequence,) = self.sequences
        first = sequence.read - work.tokens.shape[1]
        return sequence.tokens[first + 1 : sequence.read + 1]


def tapered(unread: int, size: int, longest: int, ranks: int) -> int:
    """The next chunk, if `unread` tokens are read in chunks of about `size`, each a little shorter than the last."""
    chunks = -(-unread // size)
    share = unread * _first_share(chunks, _taper(ranks))
    if chunks > 1 and share >= CHUNK_STEP:
        fewest = unread - (chunks - 1) * size  # else one chunk more would follow
        share = CHUNK_STEP * max(round(share / CHUNK_STEP), math.ceil(fewest / CHUNK_STEP))
    return min(unread, longest, math.ceil(share))


def _taper(ranks: int) -> float:
    """What each chunk has of the one before."""
    return 1 - TAPERING / ranks


def _first_share(chunks: int, taper: float) -> float:
    """What the first of so many tapered chunks has of all."""
    return (1 - taper) / (1 - taper**chunks)


def longest_chunk(pace: Pace, most: int) -> int:
    """Tokens of a pass that takes no longer than LONGEST_CHUNK_SECONDS on each rank; `most` 0: no other bound."""
    bound = pace.largest(LONGEST_CHUNK_SECONDS, most or MOST_CHUNK_TOKENS, CHUNK_STEP)
    return max(bound, min(FEWEST_CHUNK_TOKENS, most or FEWEST_CHUNK_TOKENS))


def chunk_size(pace: Pace, unread: int, following: int, most: int) -> int:
    """Tokens of a chunk when nothing but prompts is read: `unread` of this one, `following` of those after it.

    With one rank there is little to choose: equal chunks of about LONGEST_CHUNK_SECONDS, rather half as long again than
    one more of them, for which all weights are read again. With several the last chunk leaves ranks idle, so that short
    ones are better, but each costs the reading of all weights: the number of tapered chunks with which the last one is
    soonest through, by measured times. What ranks that compute at the same time take longer, and what tokens before a
    chunk cost it, is much the same however many there are, so it is left out: times measured beside others, of chunks
    at different places, would hide what the length of a chunk costs.
    `most` 0: no other bound.
    """
    longest = min(unread, longest_chunk(pace, most))
    if pace.ranks == 1:
        return -(-unread // max(-(-unread // (most or MOST_CHUNK_TOKENS)), round(unread / longest)))
    fewest = -(-unread // longest)
    shortest = min(longest, FEWEST_CHUNK_TOKENS)
    numbers = {fewest, *(-(-unread // size) for size in range(shortest, longest, _STEP_TRIED))}
    taper = _taper(pace.ranks)

    def duration(chunks: int) -> float:
        size = -(-unread // chunks)
        last = math.ceil(unread * _first_share(chunks, taper) * taper ** (chunks - 1))
        return (unread + following) / size * pace.tick(size) + (pace.ranks - 1) * pace.tick(last)

    return -(-unread // min(sorted(numbers), key=duration))
