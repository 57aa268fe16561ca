"""What requests do to a batch's logits before tokens are drawn: penalties, biases, and the masks of grammars."""

from __future__ import annotations

import mlx.core as mx

from mlxserve.engine.sequence import Sequence


def adjusted(logits: mx.array, sequences: list[Sequence]) -> mx.array:
    """`logits` [rows, vocabulary] with each row as its sequence wants it; the same array where none wants anything."""
    if not any(sequence.penalties or sequence.matcher for sequence in sequences):
        return logits
    return mx.stack([_row(logits[row].astype(mx.float32), one) for row, one in enumerate(sequences)])


def note_drawn(tokens: mx.array, sequences: list[Sequence]) -> None:
    """`tokens` [rows] were drawn, and may not have been computed yet."""
    for row, sequence in enumerate(sequences):
        if sequence.penalties:
            sequence.penalties.note(tokens[row])


def _row(logits: mx.array, sequence: Sequence) -> mx.array:
    if sequence.penalties:
        logits = sequence.penalties.apply(logits)
    if sequence.matcher and not sequence.done:
        allowed = sequence.matcher.allowed(logits.shape[-1], sequence.max_tokens - sequence.sampled)
        logits = mx.where(mx.array(allowed), logits, -mx.inf)
    return logits
