"""The same request gives the same text: on one rank, two or three; alone or among sixteen others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import openai
import pytest

from tests.conftest import Shared
from tests.system.near_tie import is_near_tie
from tests.system.server import Server

TOKENS = 12
SUBJECTS = [
    "rain", "a violin", "the moon", "bread", "a lighthouse", "chess", "winter", "a spider", "Rome", "glass",
    "an old bicycle", "tea", "the number seven", "a volcano", "sleep", "ants", "a bridge", "salt", "the wind", "owls",
]  # fmt: skip
FILLER = "Count the birds, then describe each of them in turn. "


@dataclass(frozen=True)
class Case:
    """One request of the comparison."""

    prompt: str
    temperature: float
    seed: int

    @classmethod
    def all(cls) -> list[Case]:
        """Twenty prompts of very different lengths, each greedy and seeded."""
        prompts = [FILLER * (index % 7) + f"Tell me about {subject}." for index, subject in enumerate(SUBJECTS)]
        greedy = [cls(prompt, 0.0, 0) for prompt in prompts]
        seeded = [cls(prompt, 0.9, 1000 + index) for index, prompt in enumerate(prompts)]
        return greedy + seeded


async def _ask(client: openai.AsyncOpenAI, case: Case) -> str:
    answer = await client.chat.completions.create(
        model="demo",
        messages=[{"role": "user", "content": case.prompt}],
        temperature=case.temperature,
        top_p=0.95,
        seed=case.seed,
        max_tokens=TOKENS,
    )
    return answer.choices[0].message.content or ""


def answers(server: Server, cases: list[Case], at_once: int) -> list[str]:
    """The answers to `cases`, never more than `at_once` of them in flight."""

    async def run() -> list[str]:
        places = asyncio.Semaphore(at_once)
        async with server.async_client() as client:

            async def one(case: Case) -> str:
                async with places:
                    return await _ask(client, case)

            return await asyncio.gather(*map(one, cases))

    return asyncio.run(run())


@pytest.fixture(scope="module")
def alone(shared: Shared) -> list[str]:
    """Each case by itself on one rank."""
    return answers(shared(1), Case.all(), 1)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_texts_are_equal_among_sixteen_others_on_any_number_of_ranks(
    shared: Shared, alone: list[str], ranks: int
) -> None:
    together = answers(shared(ranks), Case.all(), 17)
    for case, expected, actual in zip(Case.all(), alone, together, strict=True):
        assert actual == expected or is_near_tie(case.prompt, case.temperature, case.seed, expected, actual)


@pytest.mark.parametrize("ranks", [2, 3])
def test_texts_are_equal_alone_on_any_number_of_ranks(shared: Shared, alone: list[str], ranks: int) -> None:
    some = [*range(5), *range(20, 25)]
    cases = [Case.all()[index] for index in some]
    assert answers(shared(ranks), cases, 1) == [alone[index] for index in some]


def test_seeded_texts_are_not_simply_greedy(alone: list[str]) -> None:
    greedy, seeded = alone[: len(SUBJECTS)], alone[len(SUBJECTS) :]
    assert sum(one != other for one, other in zip(greedy, seeded, strict=True)) > len(SUBJECTS) / 2
    assert len(set(seeded)) == len(seeded)
