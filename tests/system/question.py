"""Questions to a server, one at a time or all at once, and what it answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import openai

from tests.system.near_tie import is_near_tie
from tests.system.server import Server


@dataclass(frozen=True)
class Question:
    """One chat request, always streamed."""

    prompt: str
    tokens: int = 12
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class Answer:
    """What came back, and what the server counted."""

    text: str
    pieces: int
    """Events that have text."""
    usage: Any

    @property
    def cached(self) -> int:
        """Tokens of the prompt that were not read again."""
        return int(self.usage.prompt_tokens_details.cached_tokens)


class After:
    """Does something once, after so many calls."""

    def __init__(self, calls: int, action: Callable[[], None]) -> None:
        self._left = calls
        self._action = action

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._action()


def ask(server: Server, question: Question) -> Answer:
    """The answer to one question."""
    return ask_at_once(server, [question])[0]


def ask_each(server: Server, questions: Sequence[Question]) -> list[Answer]:
    """The answers to `questions`, each asked alone."""
    return [ask(server, question) for question in questions]


def ask_at_once(
    server: Server, questions: Sequence[Question], at_piece: Callable[[], None] = lambda: None
) -> list[Answer]:
    """The answers to `questions`, all of which are open together; `at_piece` is called at each piece of any of them."""

    async def run() -> list[Answer]:
        async with server.async_client() as client:
            return await ask_all(client, questions, at_piece)

    return asyncio.run(run())


@contextmanager
def kept_busy(server: Server, questions: Sequence[Question]) -> Iterator[None]:
    """Asks `questions` together, again and again, until the end of the block."""
    enough = threading.Event()

    def ask_again() -> None:
        while not enough.is_set():
            ask_at_once(server, questions)

    asking = threading.Thread(target=ask_again)
    asking.start()
    try:
        yield
    finally:
        enough.set()
        asking.join()


async def ask_all(
    client: openai.AsyncOpenAI,
    questions: Sequence[Question],
    at_piece: Callable[[], None] = lambda: None,
    at_once: int | None = None,
) -> list[Answer]:
    """The answers to `questions`, `at_once` of which are open together, or all."""
    places = asyncio.Semaphore(at_once or len(questions))

    async def one(question: Question) -> Answer:
        async with places:
            return await _ask(client, question, at_piece)

    return await asyncio.gather(*map(one, questions))


def is_right(question: Question, expected: Answer, actual: Answer) -> bool:
    """Whether the texts are equal, or part where rounding decides."""
    if actual.text == expected.text:
        return True
    return is_near_tie(question.prompt, question.temperature, question.seed, expected.text, actual.text)


async def _ask(client: Any, question: Question, at_piece: Callable[[], None]) -> Answer:
    chunks: AsyncIterator[Any] = await client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": question.prompt}],
        temperature=question.temperature,
        top_p=0.95,
        seed=question.seed,
        max_tokens=question.tokens,
        stream=True,
        stream_options={"include_usage": True},
    )
    pieces, usage = list[str](), None
    async for chunk in chunks:
        new = [choice.delta.content for choice in chunk.choices if choice.delta.content]
        pieces += new
        usage = chunk.usage or usage
        if new:
            at_piece()
    return Answer("".join(pieces), len(pieces), usage)
