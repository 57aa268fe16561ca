"""What each token of an answer must be: by mlx-lm's own model and caches, in one pass over the sequence alone."""

from __future__ import annotations

from dataclasses import dataclass, field

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache

from mlxserve.engine.messages import Likelihood, NewToken, Sampling, Submit
from mlxserve.engine.penalties import penalties_of
from mlxserve.engine.sampler import scores

NEAR_TIE = 1e-3
"""Difference of two scores, some of which are about 1, within which rounding may tip the scale either way."""


@dataclass
class Answer:
    """What was told of one sequence."""

    tokens: list[NewToken] = field(default_factory=list)
    of_prompt: list[Likelihood] = field(default_factory=list)

    @property
    def finish(self) -> str | None:
        """Why it has ended, if it has."""
        return self.tokens[-1].finish if self.tokens else None


class Reference:
    """Checks answers; counts the tokens that were near ties."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.near_ties = 0

    def check(self, submit: Submit, answer: Answer) -> None:
        """Every token of `answer` is the one that `submit` asks for, with its likelihood."""
        _check_ends(submit, answer.tokens)
        tokens = [new.token for new in answer.tokens]
        everything = mx.array([[*submit.prompt, *tokens]])
        logits = self._model(everything, cache=make_prompt_cache(self._model))[0].astype(mx.float32)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        before = len(submit.prompt) - 1
        _check_likelihoods(logprobs[:before], submit.prompt[1:], answer.of_prompt, submit.top_logprobs)
        if submit.prompt_logprobs and tokens:
            assert len(answer.of_prompt) == before
        if not tokens:
            return
        told = [new.likelihood for new in answer.tokens]
        assert all((one is None) == (submit.top_logprobs < 0) for one in told)
        _check_likelihoods(logprobs[before:], tokens, [one for one in told if one], submit.top_logprobs)
        self._check_drawn(logits[before:-1], submit.sampling, submit.prompt, tokens)

    def _check_drawn(self, logits: mx.array, sampling: Sampling, prompt: list[int], tokens: list[int]) -> None:
        rows = [_adjusted(logits[at], sampling, prompt, tokens[:at]) for at in range(len(tokens))]
        found = scores(mx.stack(rows), [sampling] * len(tokens), list(range(len(tokens))))
        gaps = mx.max(found, axis=-1) - mx.take_along_axis(found, mx.array(tokens)[:, None], axis=-1)[:, 0]
        assert mx.max(gaps).item() <= NEAR_TIE, f"{tokens}: behind the best by {gaps.tolist()}"
        self.near_ties += int(mx.sum(gaps > 0).item())


def _check_ends(submit: Submit, tokens: list[NewToken]) -> None:
    for number, new in enumerate(tokens, start=1):
        last = "length" if number == submit.max_tokens else None
        assert new.finish == ("stop" if new.token in submit.stop_tokens else last)
        assert new.finish is None or number == len(tokens)


def _check_likelihoods(logprobs: mx.array, tokens: list[int], told: list[Likelihood], alternatives: int) -> None:
    if not told:
        return
    logprobs = logprobs[: len(told)]
    own = mx.take_along_axis(logprobs, mx.array(tokens[: len(told)])[:, None], axis=-1)[:, 0]
    assert _near(own, mx.array([one.logprob for one in told]))
    if alternatives > 0:
        assert all(len(one.top) == alternatives for one in told)
        best = mx.sort(logprobs, axis=-1)[:, ::-1][:, :alternatives]
        assert _near(best, mx.array([[logprob for _, logprob in one.top] for one in told]))


def _adjusted(logits: mx.array, sampling: Sampling, prompt: list[int], answered: list[int]) -> mx.array:
    penalties = penalties_of(sampling, prompt, answered)
    return penalties.apply(logits) if penalties else logits


def _near(one: mx.array, other: mx.array) -> bool:
    return bool((mx.max(mx.abs(one - other)) <= NEAR_TIE).item())
