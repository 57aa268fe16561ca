from __future__ import annotations

import random
from collections.abc import Callable

import mlx.core as mx
import pytest
from llguidance import LLMatcher, LLTokenizer

from mlxserve.engine.grammar import Matcher, Tokens
from mlxserve.engine.messages import Likelihood, Sampling
from mlxserve.engine.sequence import Sequence
from mlxserve.engine.verification import Guesses, Verdict, verify
from tests.engine.tiny import GREEDY, VOCABULARY, Log, logits_after, scheduler, submit

PROMPT = [7, 3, 300, 41, 5, 11, 2, 90]
TOKENS = 24
GRAMMAR_TOKENS = Tokens(LLTokenizer("byte"))
STOP = GRAMMAR_TOKENS.tokenizer.eos_token
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "size": {"enum": ["small", "large"]}},
    "required": ["name", "size"],
    "additionalProperties": False,
}

Guess = Callable[[list[int], int], list[int]]
"""From the whole answer that is to come, and the tokens of it that are there: guesses."""


def plain(sequence: Sequence) -> Log:
    """What the sequence gets without guesses."""
    engine = scheduler()
    engine.add(sequence)
    return Log().run(engine)


def guessed(sequences: list[Sequence], guess: Guess, answers: list[list[int]]) -> list[Verdict]:
    """All that passes with guesses bring for sequences whose caches are left to plain passes: one verdict each."""
    brought = [Verdict([], [], 0) for _ in sequences]
    while not all(one.done for one in sequences):
        rows = [
            guess(answer, one.emitted)[: max(0, one.max_tokens - one.sampled - 1)]
            for one, answer in zip(sequences, answers, strict=True)
        ]
        rows[0] = rows[0] or [0]
        guesses = Guesses([[] if one.done else row for one, row in zip(sequences, rows, strict=True)])
        inputs = guesses.inputs(sequences).tolist()
        assert isinstance(inputs, list)
        logits = mx.stack(
            [logits_after(one.tokens[:-1] + row)[-len(row) :] for one, row in zip(sequences, inputs, strict=True)]  # type: ignore[arg-type,operator]
        )
        for one, verdict, all_of_it in zip(sequences, verify(logits, sequences, guesses), brought, strict=True):
            assert verdict.trim == (guesses.count if one.done else guesses.count + 1 - len(verdict.tokens))
            all_of_it.tokens.extend(verdict.tokens)
            all_of_it.likelihoods.extend(verdict.likelihoods)
            emit(one, verdict)
    return brought


def emit(sequence: Sequence, verdict: Verdict) -> None:
    """As the scheduler does."""
    for token in verdict.tokens:
        assert not sequence.done, "a token after the end"
        sequence.tokens.append(token)
        sequence.emitted += 1
        sequence.done = token in sequence.stop_tokens or sequence.emitted >= sequence.max_tokens
    assert sequence.sampled == sequence.emitted


def right(answer: list[int], there: int) -> list[int]:
    return answer[there : there + 4]


def wrong(answer: list[int], there: int) -> list[int]:
    return [(token + 1) % VOCABULARY for token in answer[there : there + 4]]


def mixed(answer: list[int], there: int) -> list[int]:
    chance = random.Random(there)
    made = answer[there : there + chance.randrange(6)]
    return [token if chance.random() < 0.8 else 1 for token in made]


def free(number: int) -> Sequence:
    settings = [GREEDY, Sampling(5, 1.0), Sampling(6, 0.8, 0.9, 40, 0.02)]
    return submit(number, PROMPT, TOKENS, settings[number])


def penalized(number: int) -> Sequence:
    settings = [
        Sampling(0, 0.0, presence_penalty=0.8, frequency_penalty=0.4),
        Sampling(3, 0.9, repetition_penalty=1.3, logit_bias=[(11, 2.0), (12, -100.0)]),
        Sampling(4, 1.0, logit_bias=[(77, 6.0)], frequency_penalty=-0.4),
    ]
    return submit(number, PROMPT, TOKENS, settings[number])


def formed(number: int) -> Sequence:
    sequence = submit(number, [token % 250 for token in PROMPT], 40 + 20 * number, Sampling(number, 1.0), STOP)
    grammar = LLMatcher.grammar_from_json_schema(SCHEMA, {"whitespace_flexible": False})
    sequence.matcher = Matcher(GRAMMAR_TOKENS, grammar, sequence.stop_tokens)
    return sequence


@pytest.mark.parametrize("make", [free, penalized, formed])
@pytest.mark.parametrize("guess", [right, wrong, mixed])
def test_guesses_change_nothing_but_the_number_of_passes(make: Callable[[int], Sequence], guess: Guess) -> None:
    answers = [plain(make(number)).tokens[number] for number in range(3)]
    assert len(set(map(tuple, answers))) == 3
    sequences = [begun(make(number), answers[number]) for number in range(3)]
    brought = guessed(sequences, guess, answers)
    assert [one.tokens for one in sequences] == [
        one.prompt + answer for one, answer in zip(sequences, answers, strict=True)
    ]
    assert [one.tokens for one in brought] == [answer[1:] for answer in answers]


def begun(sequence: Sequence, answer: list[int]) -> Sequence:
    """`sequence` after its prompt: the first token is drawn."""
    logits = logits_after(sequence.prompt)[-1:][None]
    emit(sequence, verify(logits, [sequence], Guesses([[]]))[0])
    assert sequence.tokens[-1] == answer[0]
    return sequence


def test_kinds_of_sequences_and_rows_without_guesses_do_not_mind_each_other() -> None:
    kinds = [free, penalized, formed]
    answers = [plain(make(number)).tokens[number] for number, make in enumerate(kinds)]
    sequences = [begun(make(number), answers[number]) for number, make in enumerate(kinds)]
    guessed(sequences, lambda answer, there: mixed(answer, there) if there % 3 else [], answers)
    assert [one.tokens[len(PROMPT) :] for one in sequences] == answers


def test_each_kept_token_comes_with_its_own_likelihoods() -> None:
    def telling(number: int) -> Sequence:
        return submit(number, PROMPT, TOKENS, Sampling(7, 1.0), top_logprobs=number)

    logs = [plain(telling(number)) for number in (0, 3)]
    answers = [logs[0].tokens[0], logs[1].tokens[3]]
    sequences = [begun(telling(number), answer) for number, answer in zip((0, 3), answers, strict=True)]
    brought = guessed(sequences, mixed, answers)
    for verdict, wanted in zip(brought, (logs[0].likelihoods[0], logs[1].likelihoods[3]), strict=True):
        told = [one for one in verdict.likelihoods if isinstance(one, Likelihood)]
        assert [one.logprob for one in told] == pytest.approx([one.logprob for one in wanted[1:]], abs=1e-4)
        assert [[token for token, _ in one.top] for one in told] == [
            [token for token, _ in one.top] for one in wanted[1:]
        ]


def test_nothing_comes_after_a_stop_token_among_right_guesses() -> None:
    answer = plain(free(1)).tokens[1]
    at = next(index for index in range(5, TOKENS) if answer.index(answer[index]) == index)
    sequence = begun(submit(0, PROMPT, TOKENS, free(1).sampling, stop=answer[at]), answer)
    (brought,) = guessed([sequence], lambda answer, there: answer[there : there + 15], [answer])
    assert brought.tokens == answer[1 : at + 1]


def test_a_sequence_that_was_cancelled_on_the_way_gets_nothing() -> None:
    sequence = begun(free(0), plain(free(0)).tokens[0])
    sequence.done = True
    logits = mx.zeros((1, 3, VOCABULARY))
    assert verify(logits, [sequence], Guesses([[1, 2]])) == [Verdict([], [], 2)]


def test_a_broken_grammar_is_told() -> None:
    sequence = formed(0)
    assert sequence.matcher
    sequence.matcher.accept(ord("x"))
    (verdict,) = verify(mx.zeros((1, 3, VOCABULARY)), [sequence], Guesses([[1, 2]]))
    assert "cannot be followed" in verdict.error
    assert verdict.tokens == []
