from __future__ import annotations

import mlx.core as mx
import pytest

from mlxserve.engine.messages import Likelihood, Sampling
from tests.engine.tiny import Log, logits_after, scheduler, submit, works

PROMPT = [7, 3, 300, 41, 5, 11, 2, 90]


def expected(tokens: list[int], first: int) -> list[tuple[float, list[int]]]:
    """Of each of `tokens` from `first` on, its log-probability after those before it, and the three likeliest."""
    logits = logits_after(tokens)[first - 1 : -1]
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    return [
        (float(row[token].item()), [int(best) for best in mx.argsort(-row)[:3].tolist()])  # type: ignore[union-attr]
        for row, token in zip(logprobs, tokens[first:], strict=True)
    ]


def agree(found: list[Likelihood], wanted: list[tuple[float, list[int]]]) -> None:
    assert [one.logprob for one in found] == pytest.approx([logprob for logprob, _ in wanted], abs=1e-4)
    assert [[token for token, _ in one.top] for one in found] == [best for _, best in wanted]
    for one in found:
        values = [value for _, value in one.top]
        assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("sampling", [Sampling(0, 0.0), Sampling(5, 1.0, presence_penalty=1.5)])
def test_each_token_comes_with_its_log_probability_and_the_likeliest_others(sampling: Sampling) -> None:
    engine = scheduler()
    engine.add(submit(1, PROMPT, sampling=sampling, top_logprobs=3))
    engine.add(submit(2, PROMPT[:4]))
    log = Log().run(engine)
    agree(log.likelihoods[1], expected(PROMPT + log.tokens[1], len(PROMPT)))
    assert 2 not in log.likelihoods


def test_the_token_alone_where_no_others_are_wanted() -> None:
    engine = scheduler()
    engine.add(submit(1, PROMPT, top_logprobs=0))
    assert [one.top for one in Log().run(engine).likelihoods[1]] == [[]] * 12


@pytest.mark.parametrize("chunk", [3, 256])
def test_a_prompts_own_tokens_are_told_in_whatever_chunks_it_is_read(chunk: int) -> None:
    engine = scheduler(chunk=chunk)
    for number in (1, 2):
        engine.add(submit(number, PROMPT[:number], tokens=1))
    engine.add(submit(3, PROMPT, tokens=4, top_logprobs=3, prompt_logprobs=True))
    log = Log().run(engine)
    agree(log.prompts[3], expected(PROMPT, 1))
    agree(log.likelihoods[3], expected(PROMPT + log.tokens[3], len(PROMPT)))
    assert list(log.prompts) == [3]


def test_a_prompt_that_is_told_is_read_in_chunks_whose_logits_take_little_memory() -> None:
    engine = scheduler(chunk=2048)
    engine.add(submit(1, [7] * 600, tokens=1, prompt_logprobs=True))
    log = Log().run(engine)
    assert max(work.tokens.size for work in works(engine)) == 256
    assert len(log.prompts[1]) == 599


def test_a_cancelled_prompt_is_not_told() -> None:
    engine = scheduler(chunk=3)
    engine.add(submit(1, PROMPT, prompt_logprobs=True))
    log = Log()
    log.step(engine)
    engine.cancel(1)
    told = len(log.prompts.get(1, []))
    log.run(engine)
    assert len(log.prompts.get(1, [])) == told
