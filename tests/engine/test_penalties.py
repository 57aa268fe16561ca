from __future__ import annotations

import mlx.core as mx
import pytest

from mlxserve.engine.messages import Sampling
from tests.engine.tiny import VOCABULARY, Log, alone, logits_after, scheduler, submit

PROMPT = [7, 3, 300, 41, 5]
TOKENS = 24


def greedy(sampling: Sampling) -> list[int]:
    """The tokens that a request with these penalties must get, worked out step by step from the logits."""
    answer: list[int] = []
    while len(answer) < TOKENS:
        logits = logits_after(PROMPT + answer)[-1].tolist()
        assert isinstance(logits, list)
        for token, logit in enumerate(logits):
            assert isinstance(logit, float)
            value = logit
            if token in PROMPT + answer and sampling.repetition_penalty != 1:
                value = value / sampling.repetition_penalty if value > 0 else value * sampling.repetition_penalty
            value -= sampling.frequency_penalty * answer.count(token)
            value -= sampling.presence_penalty * (token in answer)
            logits[token] = value + dict(sampling.logit_bias).get(token, 0)
        answer.append(int(mx.argmax(mx.array(logits)).item()))
    return answer


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(0, 0.0, presence_penalty=0.8),
        Sampling(0, 0.0, frequency_penalty=0.4),
        Sampling(0, 0.0, presence_penalty=-0.5, frequency_penalty=0.2),
        Sampling(0, 0.0, repetition_penalty=1.3),
        Sampling(0, 0.0, logit_bias=[(11, 2.0), (12, -100.0)], frequency_penalty=1.0),
    ],
    ids=["presence", "frequency", "both", "repetition", "bias"],
)
def test_penalties_count_as_their_formulas_say(sampling: Sampling) -> None:
    assert alone(submit(1, PROMPT, TOKENS, sampling)) == greedy(sampling)


def test_a_bias_of_100_forces_a_token_and_of_minus_100_bans_it() -> None:
    assert alone(submit(1, PROMPT, 5, Sampling(0, 1.0, logit_bias=[(77, 100.0)]))) == [77] * 5
    banned = [(token, -100.0) for token in range(VOCABULARY) if token % 2]
    assert all(token % 2 == 0 for token in alone(submit(1, PROMPT, TOKENS, Sampling(3, 1.0, logit_bias=banned))))


def test_sequences_with_and_without_penalties_do_not_mind_each_other() -> None:
    settings = [
        Sampling(1, 0.0),
        Sampling(2, 1.0, presence_penalty=1.0),
        Sampling(3, 0.8, 0.9, repetition_penalty=1.2, logit_bias=[(5, 1.0)]),
        Sampling(4, 0.0, frequency_penalty=2.0),
    ]
    apart = [alone(submit(number, PROMPT, TOKENS, setting)) for number, setting in enumerate(settings)]
    engine = scheduler()
    for number, setting in enumerate(settings):
        engine.add(submit(number, PROMPT, TOKENS, setting))
    together = Log().run(engine).tokens
    assert [together[number] for number in range(len(settings))] == apart
