from __future__ import annotations

import random

from mlxserve.engine.drafts import Drafts


def following(prompt: list[int], answer: list[int]) -> Drafts:
    drafts = Drafts(len(prompt))
    for end in range(len(answer) + 1):  # token by token, as it is written
        drafts.follow(prompt + answer[:end])
    return drafts


def right_guesses(prompt: list[int], answer: list[int]) -> int:
    """How many of the answer's tokens are guessed one before they come."""
    drafts, right = Drafts(len(prompt)), 0
    for end, token in enumerate(answer):
        drafts.follow(prompt + answer[:end])
        right += drafts.guess(prompt + answer[:end], 1) == [token]
    return right


def test_a_text_goes_on_as_it_did_where_its_last_tokens_stood_before() -> None:
    prompt = [1, 2, 3, 4, 5, 6, 7]
    assert following(prompt, [9, 2, 3]).guess([*prompt, 9, 2, 3], 4) == [4, 5, 6, 7]


def test_nothing_is_guessed_where_the_last_tokens_never_stood_before() -> None:
    assert following([1, 2, 3, 4], [9, 3]).guess([1, 2, 3, 4, 9, 3], 4) == []
    assert following([1], []).guess([1], 4) == []


def test_the_place_that_fits_longest_is_taken_among_those_the_latest() -> None:
    prompt = [1, 2, 3, 4, 0, 8, 2, 3, 5, 0, 9, 2, 3, 6]
    assert following(prompt, [0, 8, 2, 3]).guess([*prompt, 0, 8, 2, 3], 1) == [5]
    assert following(prompt, [7, 2, 3]).guess([*prompt, 7, 2, 3], 1) == [6]


def test_loops_go_on() -> None:
    assert following([1, 2], [3, 4, 5, 3, 4]).guess([1, 2, 3, 4, 5, 3, 4], 7) == [5, 3, 4, 5, 3, 4, 5]
    assert following([1], [6, 6, 6]).guess([1, 6, 6, 6], 3) == [6, 6, 6]


def test_a_copy_with_edits_is_guessed_but_for_the_edits() -> None:
    chance = random.Random(1)
    code = [chance.randrange(60) for _ in range(400)]
    edited = [*code[:100], 70, *code[101:200], 71, 72, 73, *code[200:300], *code[310:]]
    prompt = [80, 81, *code, 82]
    assert right_guesses(prompt, edited) > len(edited) - 20


def test_tokens_that_come_together_are_as_good_as_one_by_one() -> None:
    chance = random.Random(2)
    prompt, answer = ([chance.randrange(5) for _ in range(100)] for _ in range(2))
    at_once = Drafts(len(prompt))
    at_once.follow(prompt + answer)
    assert at_once.guess(prompt + answer, 9) == following(prompt, answer).guess(prompt + answer, 9)


def test_rates_follow_what_is_seen_and_what_was_recent_most() -> None:
    loop = following([0], [1, 2, 3, 4] * 30)
    assert loop.rates.rate(40) > 0.98
    chance = random.Random(3)
    noise = following([0], [chance.randrange(4) for _ in range(400)])
    assert noise.rates.rate(2) < 0.45
    before = noise.rates.rate(2)
    for _ in range(30):
        noise.rates.note(2, True)
    assert noise.rates.rate(2) > 0.8 > before
