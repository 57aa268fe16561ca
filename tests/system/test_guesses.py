"""Guessed tokens change no text over two ranks: guesses from the text so far, and those of a draft model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Shared
from tests.models.tiny import tiny_config, tiny_weights, write_folder
from tests.system.question import Answer, Question, ask_at_once, ask_each, is_right
from tests.system.server import Server, start
from tests.system.test_mistakes import ends_with

Own = Callable[[Server], Server]
REPEATED = (
    "Copy this text twice: The old keeper swept the steps of the lighthouse, counted the boats that came home and lit "
    "the lamp."
)
QUESTIONS = [
    Question(REPEATED, 32),
    Question(REPEATED, 32, temperature=0.5, seed=7),
    Question("Tell me about the sea.", 24),
    Question("Tell me about the sea.", 24, temperature=0.9, seed=8),
]


@pytest.fixture(scope="module")
def expected(plain: Server) -> list[Answer]:
    """Without guesses."""
    return ask_each(plain, QUESTIONS)


def assert_right(expected: list[Answer], found: list[Answer]) -> None:
    for question, one, other in zip(QUESTIONS, expected, found, strict=True):
        assert is_right(question, one, other)
        assert other.usage.completion_tokens == one.usage.completion_tokens
        assert other.usage.prompt_tokens == one.usage.prompt_tokens


def test_texts_that_repeat_themselves_are_guessed_and_stay_the_same(shared: Shared, expected: list[Answer]) -> None:
    found = ask_each(shared(2), QUESTIONS)
    assert_right(expected, found)
    assert_right(expected, ask_at_once(shared(2), QUESTIONS))
    assert found[0].pieces < expected[0].pieces * 0.8, "no event has several tokens: nothing was guessed"


def test_an_answer_that_was_given_before_is_guessed_when_it_is_asked_for_again(shared: Shared, plain: Server) -> None:
    question = Question("What does a lighthouse keeper do all day long?", 32)
    (expected,) = ask_each(plain, [question])
    first, again = ask_each(shared(2), [question, question])
    assert is_right(question, expected, first)
    assert is_right(question, expected, again)
    assert again.pieces < 0.6 * first.pieces, "no event has several tokens: nothing was guessed"


def test_a_draft_model_changes_no_text(own: Own, expected: list[Answer]) -> None:
    server = own(start(2, "--draft-model", "demo"))
    server.wait_until("healthy")
    found = ask_each(server, QUESTIONS)
    assert_right(expected, found)
    assert_right(expected, ask_at_once(server, QUESTIONS))


def test_a_draft_model_of_another_vocabulary_ends_all_ranks(own: Own, tmp_path: Path) -> None:
    config = tiny_config("llama")
    folder = write_folder(tmp_path / "other", config, tiny_weights(config))
    tokens = f"{config['vocab_size']} tokens, but the model that is served has 49152"
    ends_with(own(start(2, "--draft-model", str(folder))), 2, tokens)
