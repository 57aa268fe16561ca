"""Asks a server from another host: `python -m tests.system.asking URL PIECES`, questions as JSON on standard input.

Says "begun" as soon as so many pieces have come, and in the end what was answered, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys

import openai

from tests.system.interrupted import Pieces
from tests.system.question import Answer, Question, ask_all


async def _ask(url: str, questions: list[Question], pieces: Pieces) -> list[Answer]:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300) as client:
        return await ask_all(client, questions, pieces)


def main() -> None:
    """Ask, and print."""
    url, number = sys.argv[1:]
    questions = [Question(**fields) for fields in json.load(sys.stdin)]
    pieces = Pieces(int(number), lambda: print("begun", flush=True))
    answers = asyncio.run(_ask(url, questions, pieces))
    told = [(answer.text, answer.pieces, answer.usage.model_dump()) for answer in answers]
    print(json.dumps({"answers": told, "standstill": pieces.standstill}))


if __name__ == "__main__":
    main()
