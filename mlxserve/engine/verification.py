"""Several tokens a pass: guesses go in behind the last token, and those that would have been drawn are kept.

The noise of a draw depends on seed and position alone. So at each position the token is drawn as it would be without
guesses, and a guess is right if it is that token: what comes out is what comes out without guesses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlxserve.engine.likelihoods import likelihoods
from mlxserve.engine.messages import Likelihood
from mlxserve.engine.sampler import sample
from mlxserve.engine.sequence import Sequence

if TYPE_CHECKING:
    from mlxserve.engine.grammar import Matcher


@dataclass(frozen=True)
class Guesses:
    """What is guessed to follow each sequence of a batch; not all need have guesses."""

    rows: list[list[int]]
    drafted: list[bool] = field(default_factory=list)
    """For each row whether a draft model made its guesses; empty: none did."""

    @property
    def count(self) -> int:
        """The most guesses of a row: a pass has one token a row more."""
        return max(map(len, self.rows))

    def inputs(self, sequences: list[Sequence]) -> mx.array:
        """The tokens of the pass, [rows, 1 + count]: each row's last known one and its guesses, then anything."""
        width = self.count
        known = ([sequence.tokens[-1]] for sequence in sequences)
        filled = (row + [0] * (width - len(row)) for row in self.rows)
        return mx.array([last + row for last, row in zip(known, filled, strict=True)], mx.int32)


@dataclass(frozen=True)
class Verdict:
    """What a pass brought for one row."""

    tokens: list[int]
    """Drawn: one more than guesses were right, less where the sequence ends among them; none if it was done before."""
    likelihoods: list[Likelihood | None]
    """One a token."""
    trim: int
    """So many tokens at the end of the row's caches were guessed wrong."""
    error: str = ""
    """Why the sequence cannot go on."""


class _Row:
    """One sequence, and the guesses of it that can be right."""

    def __init__(self, sequence: Sequence, guesses: list[int], vocabulary: int) -> None:
        self.sequence = sequence
        self.guesses = [] if sequence.done else guesses
        self._masks: list[NDArray[np.bool_]] = []
        self._matchers: list[Matcher] = []
        if sequence.matcher and not sequence.done:
            self._match(sequence.matcher, vocabulary)

    @property
    def count(self) -> int:
        """Positions at which tokens are drawn."""
        return len(self.guesses) + 1

    def adjusted(self, logits: mx.array) -> mx.array:
        """`logits` [count, vocabulary] as the sequence wants them, if the guesses before each position are right."""
        if self.sequence.penalties or self._masks:
            logits = logits.astype(mx.float32)
        if self.sequence.penalties:
            logits = self.sequence.penalties.apply_along(logits, self.guesses)
        if self._masks:
            logits = mx.where(mx.array(np.stack(self._masks)), logits, -mx.inf)
        return logits

    def conclude(self, drawn: list[int], told: list[Likelihood | None], width: int) -> Verdict:
        """Let the sequence go on by what was `drawn` at each position."""
        sequence = self.sequence
        right = next((at for at, guess in enumerate(self.guesses) if guess != drawn[at]), len(self.guesses))
        stop = next((at for at, token in enumerate(drawn[:right]) if token in sequence.stop_tokens), right)
        if sequence.done:
            return Verdict([], [], width - 1)
        if self._matchers and self._matchers[stop].error:
            return Verdict([], [], width - 1, self._matchers[stop].error)
        tokens = drawn[: stop + 1]
        sequence.sampled += len(tokens)
        if sequence.penalties:
            sequence.penalties.note(mx.array(tokens))
        if self._matchers:
            sequence.matcher = self._matchers[stop]
            if tokens[-1] not in sequence.stop_tokens:
                sequence.matcher.accept(tokens[-1])
        return Verdict(tokens, told[: stop + 1], width - len(tokens))

    def _match(self, matcher: Matcher, vocabulary: int) -> None:
        """Note what the grammar allows at each position; a guess that it forbids is none, nor are those after it."""
        left = self.sequence.max_tokens - self.sequence.sampled
        for position in range(self.count):
            mask = matcher.allowed(vocabulary, left - position)
            self._masks.append(mask)
            self._matchers.append(matcher)
            if position == len(self.guesses):
                return
            guess = self.guesses[position]
            if matcher.error or not mask[guess] or guess in self.sequence.stop_tokens:
                self.guesses = self.guesses[:position]
                return
            matcher = matcher.fork()
            matcher.accept(guess)


def verify(logits: mx.array, sequences: list[Sequence], guesses: Guesses) -> list[Verdict]:
    """Of `logits` [rows, 1 + count, vocabulary] after `guesses.inputs`: what each row draws.

    The sequences' `sampled`, penalties and matchers have gone on when this returns; `tokens` and `emitted` have not.
    """
    _, width, vocabulary = logits.shape
    rows = [_Row(one, row, vocabulary) for one, row in zip(sequences, guesses.rows, strict=True)]
    flat = _at_positions(logits, rows)
    settings = [row.sequence.sampling for row in rows for _ in range(row.count)]
    positions = [row.sequence.sampled + ahead for row in rows for ahead in range(row.count)]
    tokens = sample(_adjusted(flat, rows), settings, positions)
    wanted = [row.sequence.top_logprobs for row in rows for _ in range(row.count)]
    found = likelihoods(flat, tokens, max(wanted)) if max(wanted) >= 0 else None
    mx.eval(tokens, *(found.arrays if found else []))
    drawn = cast("list[int]", tokens.tolist())
    told: list[Likelihood | None] = found.told(wanted) if found else [None] * len(drawn)
    verdicts, start = [], 0
    for row in rows:
        end = start + row.count
        verdicts.append(row.conclude(drawn[start:end], told[start:end], width))
        start = end
    return verdicts


def _at_positions(logits: mx.array, rows: list[_Row]) -> mx.array:
    """The logits at all positions that count, one row after another: [positions, vocabulary]."""
    width = logits.shape[1]
    flat = logits.reshape(-1, logits.shape[-1])
    counted = [number * width + ahead for number, row in enumerate(rows) for ahead in range(row.count)]
    return flat if len(counted) == len(flat) else flat[mx.array(counted)]


def _adjusted(flat: mx.array, rows: list[_Row]) -> mx.array:
    if not any(row.sequence.penalties or row.sequence.matcher for row in rows):
        return flat
    parts, start = [], 0
    for row in rows:
        parts.append(row.adjusted(flat[start : start + row.count]))
        start += row.count
    return mx.concatenate(parts)
