"""Which ranks are tried as a group, and when again."""

from __future__ import annotations

from mlxserve.rendezvous.attempts import Attempts

ALONE, PAIR, TRIO = frozenset([0]), frozenset([0, 1]), frozenset([0, 1, 2])


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_all_that_are_there_are_taken_and_nobody_where_they_are_too_few() -> None:
    attempts = Attempts(Clock())
    assert attempts.best_of(TRIO, 1) == TRIO
    assert attempts.best_of(PAIR, 2) == PAIR
    assert attempts.best_of(ALONE, 2) == frozenset()


def test_what_failed_once_is_tried_again_at_once() -> None:
    attempts = Attempts(Clock())
    attempts.failed(PAIR)
    assert attempts.best_of(PAIR, 1) == PAIR


def test_what_fails_again_waits_ever_longer_while_a_smaller_group_serves() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    attempts.served(ALONE)
    for pause in (30, 60, 120, 240, 480, 600, 600):
        while attempts.may(PAIR):
            attempts.failed(PAIR)
        assert attempts.best_of(PAIR, 1) == ALONE
        clock.now += pause - 1
        assert not attempts.may(PAIR)
        clock.now += 1
        assert attempts.best_of(PAIR, 1) == PAIR


def test_what_came_to_serve_counts_as_new() -> None:
    attempts = Attempts(Clock())
    attempts.failed(PAIR)
    attempts.served(PAIR)
    attempts.failed(PAIR)
    assert attempts.may(PAIR)


def test_those_of_the_last_group_that_are_still_there_come_before_rank_0_alone() -> None:
    attempts = Attempts(Clock())
    attempts.served(PAIR)
    for _ in range(2):
        attempts.failed(TRIO)
    assert attempts.best_of(TRIO, 1) == PAIR


def test_with_nothing_smaller_to_fall_back_on_it_is_tried_on_and_on() -> None:
    attempts = Attempts(Clock())
    for _ in range(5):
        attempts.failed(PAIR)
    assert attempts.best_of(PAIR, 2) == PAIR


def test_ranks_that_the_model_does_not_fit_on_are_not_tried_again() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    attempts.failed(ALONE, final=True)
    clock.now += 1e9
    assert attempts.best_of(ALONE, 1) == frozenset[int]()
    assert attempts.best_of(PAIR, 1) == PAIR
