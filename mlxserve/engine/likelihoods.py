"""How likely tokens were: log-probabilities as the model gives them, before temperature, penalties and grammars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import mlx.core as mx

from mlxserve.engine.messages import Likelihood


@dataclass(frozen=True)
class Likelihoods:
    """For each of some tokens, one after another or one a row; perhaps not computed yet."""

    logprobs: mx.array
    """[tokens]"""
    top_tokens: mx.array
    """[tokens, alternatives], the likeliest first."""
    top_logprobs: mx.array

    @property
    def arrays(self) -> list[mx.array]:
        """All of them, to be evaluated."""
        return [self.logprobs, self.top_tokens, self.top_logprobs]

    def told(self, wanted: list[int]) -> list[Likelihood | None]:
        """As messages, with as many alternatives as each token's request wants; None for -1."""
        logprobs = cast("list[float]", self.logprobs.tolist())
        tokens = cast("list[list[int]]", self.top_tokens.tolist())
        values = cast("list[list[float]]", self.top_logprobs.tolist())
        best = [list(zip(*row, strict=True)) for row in zip(tokens, values, strict=True)]
        return [
            Likelihood(logprob, alternatives[:top]) if top >= 0 else None
            for logprob, alternatives, top in zip(logprobs, best, wanted, strict=True)
        ]


def likelihoods(logits: mx.array, tokens: mx.array, alternatives: int) -> Likelihoods:
    """Of `tokens` [n] under `logits` [n, vocabulary], and of that many likeliest ones."""
    logits = logits.astype(mx.float32)
    total = mx.logsumexp(logits, axis=-1, keepdims=True)
    own = mx.take_along_axis(logits, tokens[:, None].astype(mx.int32), axis=-1) - total
    if alternatives < 1:
        none = mx.zeros((tokens.size, 0))
        return Likelihoods(own[:, 0], none.astype(mx.int32), none)
    best = mx.argpartition(-logits, alternatives - 1, axis=-1)[:, :alternatives]
    values = mx.take_along_axis(logits, best, axis=-1)
    order = mx.argsort(-values, axis=-1)
    best, values = mx.take_along_axis(best, order, axis=-1), mx.take_along_axis(values, order, axis=-1)
    return Likelihoods(own[:, 0], best, values - total)
