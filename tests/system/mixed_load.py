"""Requests of all kinds, many at a time: each answer is looked at, and equal questions must get equal texts."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import jsonschema

from tests.system.hostile import BAD, check, leave
from tests.system.near_tie import is_near_tie
from tests.system.question import Question
from tests.system.server import Server
from tests.system.test_forms import SCHEMAS
from tests.system.test_prefixes import story

AT_ONCE = 8
THINGS = ("rain", "bread", "chess", "glass", "tea", "sleep", "ants", "salt", "owls", "snow")
SUBJECTS = ("lighthouse", "ferry", "crane")
LONG_WORDS = 550
HARMLESS = [name for name in BAD if "megabytes" not in name and "limit" not in name]
"""Of bad requests, those that are small: what the others cost is another test's."""


@dataclass(frozen=True)
class Mismatch:
    """A question that was answered in two ways."""

    question: Question
    first: str
    later: str


@dataclass
class MixedLoad:
    """What is asked of a server, and how that went."""

    server: Server
    seed: int
    done: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    _known: dict[Question, str] = field(default_factory=dict)
    _different: set[Mismatch] = field(default_factory=set)

    async def run(self, seconds: float) -> None:
        """Ask for so long."""
        until = time.monotonic() + seconds
        limits = httpx.Limits(max_keepalive_connections=AT_ONCE)
        async with httpx.AsyncClient(base_url=self.server.url, timeout=300, limits=limits) as http:
            await asyncio.gather(*(self._ask(http, number, until) for number in range(AT_ONCE)))

    def explain(self) -> None:
        """Texts that differ where rounding decides are right; others become errors. Takes seconds for each."""
        for one in self._different:
            asked = one.question
            if not is_near_tie(asked.prompt, asked.temperature, asked.seed, one.first, one.later):
                self.errors.append(f"{asked} was answered {one.first!r}, later {one.later!r}")

    async def _ask(self, http: httpx.AsyncClient, number: int, until: float) -> None:
        """One client: a request after the other, of whatever kind."""
        chance = random.Random(f"{self.seed} {number}")
        kinds: dict[Callable[[httpx.AsyncClient, random.Random], Awaitable[None]], int] = {
            self._known_question: 10,
            self._shared_beginning: 5,
            self._schema: 3,
            self._completions: 3,
            self._long_prompt: 2,
            self._leaving: 3,
            self._leaving_unanswered: 2,
            self._hostile: 2,
        }
        while time.monotonic() < until:
            [kind] = chance.choices(list(kinds), list(kinds.values()))
            name = kind.__name__.strip("_").replace("_", " ")
            try:
                await kind(http, chance)
                self.done[name] += 1
            except Exception as error:  # whatever is wrong with an answer
                self.errors.append(f"{name}: {type(error).__name__}: {error}")
                await asyncio.sleep(0.5)  # so that a server that is gone does not fill the memory with errors

    async def _known_question(self, http: httpx.AsyncClient, chance: random.Random) -> None:
        """In whichever API, streamed or not, greedy or with a seed: the text is the question's."""
        thing, temperature = chance.choice(THINGS), chance.choice((0.0, 0.8))
        await self._same(http, chance, Question(f"Write about {thing}.", 16, temperature, THINGS.index(thing)))

    async def _shared_beginning(self, http: httpx.AsyncClient, chance: random.Random) -> None:
        beginning = story(chance.choice(SUBJECTS))
        await self._same(http, chance, Question(f"{beginning}Say {chance.randrange(4)}.", 8))

    async def _same(self, http: httpx.AsyncClient, chance: random.Random, question: Question) -> None:
        dialects = [_chat, _responses] + [_messages] * (question.temperature == 0)  # Anthropic's has no seeds
        dialect = chance.choice(dialects)
        text = await dialect(http, question, chance.choice((False, True)))
        assert text, f"{dialect.__name__} says nothing to {question}"
        first = self._known.setdefault(question, text)
        if text != first:
            self._different.add(Mismatch(question, first, text))

    async def _schema(self, http: httpx.AsyncClient, chance: random.Random) -> None:
        name = chance.choice(list(SCHEMAS))
        form = {"type": "json_schema", "json_schema": {"name": name, "schema": SCHEMAS[name]}}
        body = {"messages": [_user(f"Invent: {name}")], "max_tokens": 72, "response_format": form}
        [choice] = (await _post(http, "/v1/chat/completions", body))["choices"]
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMAS[name])

    async def _completions(self, http: httpx.AsyncClient, chance: random.Random) -> None:
        count, tokens = chance.randint(1, 3), chance.randint(1, 12)
        answer = await _post(http, "/v1/completions", {"prompt": "The sea", "n": count, "max_tokens": tokens})
        assert [choice["index"] for choice in answer["choices"]] == list(range(count))
        assert all(choice["finish_reason"] in ("stop", "length") for choice in answer["choices"])
        assert answer["usage"]["completion_tokens"] <= count * tokens

    async def _long_prompt(self, http: httpx.AsyncClient, chance: random.Random) -> None:
        """Of its own each time: nothing of it was read before."""
        words = " ".join(chance.choice(THINGS) for _ in range(LONG_WORDS))
        answer = await _post(http, "/v1/chat/completions", {"messages": [_user(words)], "max_tokens": 4})
        assert answer["usage"]["prompt_tokens"] > LONG_WORDS
        assert answer["choices"][0]["finish_reason"] in ("stop", "length")

    async def _leaving(self, http: httpx.AsyncClient, chance: random.Random) -> None:
        await leave(self.server)

    async def _leaving_unanswered(self, http: httpx.AsyncClient, chance: random.Random) -> None:
        """While it waits, or its prompt is read, or an answer is made that is not streamed."""
        words = " ".join(chance.choice(THINGS) for _ in range(chance.choice((5, LONG_WORDS))))
        asking = _post(http, "/v1/chat/completions", {"messages": [_user(words)], "max_tokens": 500})
        try:
            await asyncio.wait_for(asking, chance.uniform(0.0, 2.0))
        except TimeoutError:
            return

    async def _hostile(self, http: httpx.AsyncClient, chance: random.Random) -> None:
        await check(self.server, chance.choice(HARMLESS))


def _user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


async def _post(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> Any:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, f"{answer.status_code} {answer.text[:300]}"
    return answer.json()


async def _events(http: httpx.AsyncClient, path: str, body: dict[str, Any]) -> list[Any]:
    """The events of a streamed answer, up to its end; "[DONE]" is one."""
    async with http.stream("POST", path, json=body | {"stream": True}) as answer:
        assert answer.status_code == 200, answer.status_code
        told = [line[6:] async for line in answer.aiter_lines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in told]


def _drawn(question: Question) -> dict[str, Any]:
    return {"temperature": question.temperature, "top_p": 0.95, "seed": question.seed}


async def _chat(http: httpx.AsyncClient, question: Question, stream: bool) -> str:
    body = {"messages": [_user(question.prompt)], "max_tokens": question.tokens, **_drawn(question)}
    if not stream:
        [choice] = (await _post(http, "/v1/chat/completions", body))["choices"]
        assert choice["finish_reason"] in ("stop", "length")
        return str(choice["message"]["content"])
    *events, done = await _events(http, "/v1/chat/completions", body)
    assert done == "[DONE]"
    assert events[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    return "".join(event["choices"][0]["delta"].get("content") or "" for event in events)


async def _responses(http: httpx.AsyncClient, question: Question, stream: bool) -> str:
    body = {"input": question.prompt, "max_output_tokens": question.tokens, **_drawn(question)}
    if stream:
        answer = (await _events(http, "/v1/responses", body))[-1]["response"]
    else:
        answer = await _post(http, "/v1/responses", body)
    assert answer["status"] in ("completed", "incomplete")
    return "".join(part["text"] for item in answer["output"] for part in item["content"])


async def _messages(http: httpx.AsyncClient, question: Question, stream: bool) -> str:
    body = {"model": "demo", "messages": [_user(question.prompt)], "max_tokens": question.tokens, **_drawn(question)}
    if not stream:
        answer = await _post(http, "/v1/messages", body)
        assert answer["stop_reason"] in ("end_turn", "max_tokens")
        return "".join(block["text"] for block in answer["content"])
    events = await _events(http, "/v1/messages", body)
    assert events[-1]["type"] == "message_stop"
    return "".join(event["delta"]["text"] for event in events if event["type"] == "content_block_delta")
