"""Eight answers under way while something dies: what is asked, and whether what came back is what would have come."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

from tests.system.question import Answer, Question, is_right

TOPICS = ["a lighthouse", "the sea", "a violin", "bread"]
QUESTIONS = [
    *(Question(f"Tell me about {topic}.", 48) for topic in TOPICS),
    *(Question(f"Tell me about {topic}.", 48, temperature=0.8, seed=7) for topic in TOPICS),
]
BEGUN = 16
"""Pieces of all answers together, after which something dies: about two of each, and well before the end of those that
were given before and so come in few pieces."""
BACK_SECONDS = 15.0
"""From when the last process is back until answers go on."""


class Pieces:
    """Counts the pieces of all answers together, does something once after `number` of them, and times them."""

    def __init__(self, number: int = BEGUN, action: Callable[[], None] = lambda: None) -> None:
        self.times: list[float] = []
        self._number = number
        self._action = action

    def __call__(self) -> None:
        self.times.append(time.monotonic())
        if len(self.times) == self._number:
            self._action()

    @property
    def standstill(self) -> float:
        """The longest time between two pieces, in seconds."""
        return max(later - earlier for earlier, later in itertools.pairwise(self.times))


def are_right(expected: Sequence[Answer], answers: Sequence[Answer], questions: Sequence[Question] = QUESTIONS) -> None:
    """All of them complete, and equal to those `expected`."""
    for question, whole, answer in zip(questions, expected, answers, strict=True):
        assert is_right(question, whole, answer), (question, whole.text, answer.text)
        assert answer.usage.completion_tokens == whole.usage.completion_tokens
