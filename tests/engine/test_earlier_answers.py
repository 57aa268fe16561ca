from __future__ import annotations

import random

import pytest

from mlxserve.engine.drafts import Drafts
from mlxserve.engine.earlier_answers import EarlierAnswers

TEMPLATE = [90, 91, 92, 93]
"""What stands before each answer."""


def noise(seed: int, length: int) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(1000, 30_000) for _ in range(length)]


def drafted(earlier: EarlierAnswers, tokens: list[int], prompt_length: int, count: int) -> list[int]:
    drafts = Drafts(prompt_length, earlier)
    drafts.follow(tokens)
    return drafts.guess(tokens, count)


def test_a_question_that_is_asked_again_is_answered_as_before_from_the_first_token_on() -> None:
    question, answer = [*noise(1, 20), *TEMPLATE], noise(2, 30)
    earlier = EarlierAnswers()
    earlier.add(question, answer)
    assert drafted(earlier, question, len(question), 5) == answer[:5]
    assert drafted(earlier, [*question, *answer[:7]], len(question), 5) == answer[7:12]


def test_the_answer_to_this_question_is_taken_though_a_later_one_began_alike() -> None:
    question, other = [*noise(1, 20), *TEMPLATE], [*noise(3, 20), *TEMPLATE]
    earlier = EarlierAnswers()
    earlier.add(question, noise(2, 30))
    earlier.add(other, noise(4, 30))
    assert drafted(earlier, question, len(question), 3) == noise(2, 30)[:3]


def test_nothing_is_guessed_past_an_answers_end() -> None:
    earlier = EarlierAnswers()
    earlier.add(noise(1, 20), noise(2, 30))
    earlier.add(noise(3, 20), noise(4, 30))
    tokens = [*noise(5, 20), *noise(2, 30)]
    assert drafted(earlier, tokens[:-2], 20, 9) == noise(2, 30)[-2:]
    drafts = Drafts(20, earlier)
    drafts.follow(tokens)
    assert drafts.guess(tokens, 9) == []
    drafts.follow([*tokens, 7])
    assert drafts.length == 0


def test_three_tokens_have_to_fit() -> None:
    earlier = EarlierAnswers()
    earlier.add([], noise(1, 30))
    assert drafted(earlier, [*noise(2, 9), *noise(1, 30)[10:13]], 9, 2) == noise(1, 30)[13:15]
    assert drafted(earlier, [*noise(2, 9), *noise(1, 30)[10:12]], 9, 2) == []
    assert drafted(earlier, noise(1, 30)[:2], 1, 2) == []


def test_the_own_text_is_followed_unless_an_answer_fits_longer() -> None:
    phrase = noise(1, 6)
    earlier = EarlierAnswers()
    earlier.add([], [*noise(2, 10), *phrase, 7, 7, 7])
    own = [*phrase, 8, *noise(3, 10), *phrase]
    assert drafted(earlier, own, 1, 1) == [8]
    assert drafted(earlier, [*phrase[2:], 8, *noise(3, 10), *phrase], 1, 1) == [7]


def test_how_often_guesses_are_right_is_counted_for_each_source_alone() -> None:
    question, answer = [*noise(1, 20), *TEMPLATE], noise(2, 200)
    earlier = EarlierAnswers()
    earlier.add(question, answer)
    drafts = Drafts(len(question), earlier)
    drafts.follow([*question, *answer])
    assert drafts.rates.rate(100) > 0.99
    again = [*question, *answer, 1, 2, 3, 1, 2]
    drafts.follow(again)
    assert drafts.guess(again, 1) == [3]
    assert drafts.rates.rate(100) == pytest.approx(0.95)


def test_what_was_cut_short_is_known_up_to_there_and_no_longer_answers_as_they_go_on() -> None:
    question, answer = [*noise(1, 20), *TEMPLATE], noise(2, 60)
    earlier = EarlierAnswers()
    earlier.add(question, answer[:20])
    assert drafted(earlier, [*question, *answer[:18]], len(question), 9) == answer[18:20]
    earlier.add(question, answer)
    assert drafted(earlier, [*question, *answer[:18]], len(question), 9) == answer[18:27]


def test_the_oldest_are_forgotten_and_the_same_is_not_kept_twice() -> None:
    earlier = EarlierAnswers(volume=100)
    for _ in range(10):
        earlier.add([], noise(0, 30))
    for number in range(1, 4):
        earlier.add([], noise(number, 30))
    assert drafted(earlier, noise(0, 30)[:20], 1, 1) == [noise(0, 30)[20]]
    for number in range(4, 12):
        earlier.add([], noise(number, 30))
    assert drafted(earlier, noise(0, 30)[:20], 1, 1) == []
    assert drafted(earlier, noise(11, 30)[:20], 1, 1) == [noise(11, 30)[20]]


def test_a_replaced_token_is_passed_over() -> None:
    question, answer = noise(1, 20), noise(2, 60)
    earlier = EarlierAnswers()
    earlier.add(question, answer)
    tokens = [*question, *answer[:30], 5]
    assert drafted(earlier, tokens, len(question), 3) == answer[31:34]
