"""Prompts being read: which are read together, and in which chunks."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import mlx.core as mx

from mlxserve.engine.sequence import Sequence
from mlxserve.pipeline.pipeline import Work

MOST_PADDING = 0.5
"""Filling that is accepted for reading prompts together, as a share of their tokens."""


@dataclass
class PromptBatch:
    """Prompts that are read as the rows of one batch: several short ones at once, or a long one chunk by chunk."""

    batch: int
    sequences: list[Sequence]

    @property
    def wholly_entered(self) -> bool:
        """Whether every chunk is on its way."""
        return all(sequence.unread == 0 for sequence in self.sequences)

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for any of these any more."""
        return all(sequence.done for sequence in self.sequences)

    def next_chunk(self, size: int) -> Work:
        """The next at most `size` tokens of each row; logits are wanted of the last chunk."""
        pieces = [sequence.prompt[sequence.read : sequence.read + size] for sequence in self.sequences]
        for sequence, piece in zip(self.sequences, pieces, strict=True):
            sequence.read += len(piece)
        lengths = [len(piece) for piece in pieces]
        width = max(lengths)
        rows = [piece + [0] * (width - len(piece)) for piece in pieces]
        padded = lengths if min(lengths) < width else []
        if self.sequences[0].prompt_logprobs:
            return Work(self.batch, mx.array(rows), padded, "all")
        return Work(self.batch, mx.array(rows), padded, "last" if self.wholly_entered else "none")

    def targets(self, work: Work) -> list[int]:
        """The prompt's tokens that follow those of `work`, the last chunk taken, if all its logits are wanted."""
        if work.logits != "all":
            return []
        (sequence,) = self.sequences
        first = sequence.read - work.tokens.shape[1]
        return sequence.prompt[first + 1 : sequence.read + 1]


def take_together(waiting: deque[Sequence], most_rows: int, chunk: int) -> list[Sequence]:
    """Take from the front of `waiting` what is best read together: as many as fit one chunk without much filling.

    A prompt whose own likelihoods are wanted is read alone.
    """
    taken = [waiting.popleft()]
    while waiting and len(taken) < most_rows and _fit([*taken, waiting[0]], chunk):
        if taken[0].prompt_logprobs or waiting[0].prompt_logprobs:
            break
        taken.append(waiting.popleft())
    return taken


def _fit(sequences: list[Sequence], chunk: int) -> bool:
    lengths = [len(sequence.prompt) for sequence in sequences]
    padded = max(lengths) * len(lengths)
    return padded <= chunk and padded <= (1 + MOST_PADDING) * sum(lengths)
