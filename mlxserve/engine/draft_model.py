"""The draft model: a small model of the same vocabulary on rank 0, which guesses what the large one will draw.

It draws with the same noise, by seed and position, so that it mostly draws the same where the two models agree. Its
caches hold what is known of each sequence, and its own guesses until the next time, when those that were wrong are
forgotten. No other rank knows of it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import mlx.core as mx

from mlxserve.engine.pace import Pace
from mlxserve.engine.sampler import sample
from mlxserve.engine.sequence import Sequence
from mlxserve.pipeline.pipeline import Pipeline, Work, token_rows
from mlxserve.pipeline.plan import CacheOperation, Join, Keep, Open, Trim

_TOGETHER = 0
"""The number of the batch of all sequences that have been read; each that is being read has one of its own."""
_CHUNK = 256
_NEAR = 16
"""Known tokens a row that a pass which guesses takes in first; a row that is further behind is read on before."""


@dataclass(eq=False)
class _Row:
    """One sequence in the draft model's caches."""

    sequence: Sequence
    batch: int
    read: int = 0
    """So many of its known tokens are in the caches…"""
    guessed: list[int] = field(default_factory=list)
    """…and these guesses behind them."""

    @property
    def behind(self) -> int:
        """Known tokens that are not in the caches, should all guesses be right."""
        return len(self.sequence.tokens) - self.read - len(self.guessed)

    def compare(self) -> int:
        """Count right guesses as read. Returns how many tokens at the end of the caches are to be forgotten."""
        known = self.sequence.tokens[self.read : -1]
        pairs = enumerate(zip(self.guessed, known, strict=False))
        right = next((at for at, (guess, token) in pairs if guess != token), min(len(self.guessed), len(known)))
        wrong = len(self.guessed) - right
        self.read += right
        self.guessed = []
        if self.read == len(self.sequence.tokens):  # nothing has come since: the last token is to be read again
            self.read -= 1
            wrong += 1
        return wrong


class DraftModel:
    """Guesses for sequences; reads what they consist of as they come, a chunk at a time."""

    def __init__(self, pipeline: Pipeline, vocabulary: int, pace: Pace) -> None:
        """`vocabulary` is the width of the large model's logits; `pace` is that of `pipeline`, which has one rank."""
        self._pipeline = pipeline
        self._vocabulary = vocabulary
        self._pace = pace
        self._rows: list[_Row] = []
        self._reading: dict[Sequence, _Row] = {}
        self._batches = _TOGETHER

    def seconds(self, rows: int) -> float:
        """What guessing one token a row takes."""
        return self._pace.tick(rows)

    def prepare(self, sequences: list[Sequence]) -> list[bool]:
        """Read on in `sequences`, at most a chunk. Returns for which of them `guess` can be called."""
        self._drop_ended()
        for sequence in sequences:
            self._take_on(sequence)
        self._read_on()
        ready = {row.sequence for row in self._rows if row.behind <= _NEAR}
        return [sequence in ready for sequence in sequences]

    def guess(self, sequences: list[Sequence], count: int) -> list[list[int]]:
        """The next `count` tokens of each of `sequences`, for which `prepare` said that it can be."""
        start = time.perf_counter()
        asked = [row.sequence in sequences for row in self._rows]
        operations = self._forget_wrong()
        pieces = [row.sequence.tokens[row.read :] if wanted else [] for row, wanted in self._each(asked)]
        drawn = [self._draw(self._pass(pieces, operations), 0)]
        for ahead in range(1, count):
            lengths = [] if all(asked) else [int(wanted) for wanted in asked]
            logits = self._pipeline.tick([], Work(_TOGETHER, drawn[-1][:, None], lengths, "last"))
            drawn.append(self._draw(logits, ahead))
        guesses = token_rows(mx.stack(drawn, axis=1))
        for (row, wanted), piece, guessed in zip(self._each(asked), pieces, guesses, strict=True):
            row.read += len(piece)
            row.guessed = guessed[:-1] if wanted else []
        self._pace.note(len(asked), (time.perf_counter() - start) / count)
        by_sequence = dict(zip((row.sequence for row in self._rows), guesses, strict=True))
        return [by_sequence[sequence] for sequence in sequences]

    def _each(self, asked: list[bool]) -> list[tuple[_Row, bool]]:
        return list(zip(self._rows, asked, strict=True))

    def _drop_ended(self) -> None:
        for row in [row for row in self._reading.values() if not row.sequence.alive]:
            del self._reading[row.sequence]
            self._pipeline.tick([Keep(row.batch, [])], None)
        staying = [number for number, row in enumerate(self._rows) if row.sequence.alive]
        if len(staying) < len(self._rows):
            self._pipeline.tick([*self._forget_wrong(), Keep(_TOGETHER, staying)], None)
            self._rows = [self._rows[number] for number in staying]

    def _take_on(self, sequence: Sequence) -> None:
        if sequence not in self._reading and all(row.sequence is not sequence for row in self._rows):
            self._batches += 1
            self._reading[sequence] = _Row(sequence, self._batches)
            self._pipeline.tick([Open(self._batches, 1)], None)

    def _read_on(self) -> None:
        """Read a chunk of the row that was taken on first, or what all that have been read are behind."""
        if row := next(iter(self._reading.values()), None):
            piece = row.sequence.tokens[row.read : -1][:_CHUNK]
            if piece:
                self._pipeline.tick([], Work(row.batch, mx.array([piece]), [], "none"))
                row.read += len(piece)
            if row.behind <= _NEAR:
                self._join(row)
        elif any(row.behind > _NEAR for row in self._rows):
            operations = self._forget_wrong()
            pieces = [row.sequence.tokens[row.read : -1][:_CHUNK] for row in self._rows]
            self._pass(pieces, operations, logits=False)
            for row, piece in zip(self._rows, pieces, strict=True):
                row.read += len(piece)

    def _join(self, row: _Row) -> None:
        del self._reading[row.sequence]
        self._pipeline.tick([*self._forget_wrong(), Join(_TOGETHER, row.batch)], None)
        self._rows.append(row)

    def _forget_wrong(self) -> list[CacheOperation]:
        """The operation that takes guesses out of the caches which have turned out wrong, if there are any."""
        wrong = [row.compare() for row in self._rows]
        return [Trim(_TOGETHER, wrong)] if any(wrong) else []

    def _pass(self, pieces: list[list[int]], operations: list[CacheOperation], logits: bool = True) -> mx.array | None:
        """Read a piece of each row, perhaps an empty one."""
        lengths = [len(piece) for piece in pieces]
        width = max(lengths)
        tokens = mx.array([piece + [0] * (width - len(piece)) for piece in pieces], mx.int32)
        uneven = lengths if min(lengths) < width else []
        return self._pipeline.tick(operations, Work(_TOGETHER, tokens, uneven, "last" if logits else "none"))

    def _draw(self, logits: mx.array | None, ahead: int) -> mx.array:
        """A token for each row from `logits` [rows, 1, width], as the large model would draw it: [rows]."""
        assert logits is not None
        sequences = [row.sequence for row in self._rows]
        positions = [sequence.sampled + ahead for sequence in sequences]
        return sample(self._fitted(logits[:, -1]), [sequence.sampling for sequence in sequences], positions)

    def _fitted(self, logits: mx.array) -> mx.array:
        """`logits` as wide as the large model's, whose noise depends on that; both may be filled up beyond tokens."""
        missing = self._vocabulary - logits.shape[-1]
        if missing > 0:
            return mx.pad(logits, [(0, 0), (0, missing)], constant_values=mx.array(-mx.inf, logits.dtype))
        return logits[:, : self._vocabulary]
