"""Sixty-four streams at once over two ranks: each gets the text it would get alone, and nothing of another's."""

from __future__ import annotations

from tests.conftest import Shared
from tests.system.question import Question, ask_at_once, ask_each, is_right
from tests.system.server import Server

THINGS = [
    "rain", "bread", "chess", "glass", "tea", "sleep", "ants", "salt", "owls", "snow", "iron", "silk", "rice", "coal",
    "gold", "wool", "fire", "jazz", "tides", "maps", "clocks", "bees", "apples", "stars", "rivers", "kites", "ships",
    "horses", "paper", "soap", "honey", "sand",
]  # fmt: skip
TOKENS = 5


def test_sixty_four_streams_get_the_texts_they_get_alone(shared: Shared, plain: Server) -> None:
    """At once where 64 rows run as one batch; alone where prompts are taken from each other and guesses are made."""
    greedy = [Question(f"Write about {thing}.", TOKENS) for thing in THINGS]
    seeded = [Question(question.prompt, TOKENS, 0.9, 100 + number) for number, question in enumerate(greedy)]
    questions = [*greedy, *seeded]
    assert len(questions) == 64
    alone = ask_each(shared(2), questions)
    together = ask_at_once(plain, questions)
    for question, expected, actual in zip(questions, alone, together, strict=True):
        assert is_right(question, expected, actual)
        assert actual.usage.completion_tokens == expected.usage.completion_tokens
    assert len({answer.text for answer in together}) > 50
