"""Penalties and biases: what a request takes from, or gives to, the logits of tokens."""

from __future__ import annotations

import mlx.core as mx

from mlxserve.engine.messages import Sampling


class Penalties:
    """Penalties and biases of one sequence, and the tokens they look at.

    Counts are kept as an array, since a token that was drawn may not have been computed yet. Presence and frequency
    penalties count the answer's tokens, the repetition penalty the prompt's too: as vLLM does.
    """

    def __init__(self, sampling: Sampling, prompt: list[int], answered: list[int]) -> None:
        """`answered`: tokens of the answer that were drawn before."""
        self._sampling = sampling
        self._prompt = prompt
        self._answered = answered
        self._counts: mx.array | None = None
        self._in_prompt: mx.array | None = None
        self._bias: mx.array | None = None

    def apply(self, logits: mx.array) -> mx.array:
        """`logits` [vocabulary], float32, as the next token is drawn from."""
        if self._counts is None:
            self._begin(logits.shape[-1])
        assert self._counts is not None
        return self._applied(logits, self._counts)

    def apply_along(self, logits: mx.array, following: list[int]) -> mx.array:
        """The same for `logits` [1 + following, vocabulary], where those tokens are drawn one after another."""
        if not following:
            return self.apply(logits)
        if self._counts is None:
            self._begin(logits.shape[-1])
        assert self._counts is not None
        places = [(row, token) for row in range(len(logits)) for token in following[:row]]
        rows, tokens = zip(*places, strict=True)
        counts = mx.broadcast_to(self._counts, logits.shape)
        return self._applied(logits, counts.at[mx.array(rows), mx.array(tokens)].add(1.0))

    def _applied(self, logits: mx.array, counts: mx.array) -> mx.array:
        sampling = self._sampling
        answered = counts > 0
        if self._in_prompt is not None:
            scaled = mx.where(logits > 0, logits / sampling.repetition_penalty, logits * sampling.repetition_penalty)
            logits = mx.where(answered | self._in_prompt, scaled, logits)
        logits = logits - sampling.frequency_penalty * counts - sampling.presence_penalty * answered
        return logits if self._bias is None else logits + self._bias

    def note(self, token: mx.array) -> None:
        """`token` [], or several [tokens], perhaps not computed yet, was drawn."""
        assert self._counts is not None
        self._counts = self._counts.at[token].add(1.0)

    def _begin(self, vocabulary: int) -> None:
        self._counts = mx.zeros((vocabulary,))
        if self._answered:
            self._counts = self._counts.at[mx.array(self._answered)].add(1.0)
        if self._sampling.repetition_penalty != 1:
            self._in_prompt = mx.zeros((vocabulary,), mx.bool_).at[mx.array(self._prompt)].add(True)
        if self._sampling.logit_bias:
            tokens, values = zip(*self._sampling.logit_bias, strict=True)
            self._bias = mx.zeros((vocabulary,)).at[mx.array(tokens)].add(mx.array(values))


def penalties_of(sampling: Sampling, prompt: list[int], answered: list[int]) -> Penalties | None:
    """None where a request asks for nothing of the kind."""
    nothing = (0.0, 0.0, 1.0)
    asked = (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty)
    return Penalties(sampling, prompt, answered) if asked != nothing or sampling.logit_bias else None
