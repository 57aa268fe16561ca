"""A small bound on KV caches: more requests than fit wait for each other, and what never fits is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.conftest import Shared
from tests.system.question import Question, ask_at_once, ask_each, is_right
from tests.system.server import Server, start
from tests.system.test_prefixes import story

RUNNING, STORED = 0.03, 0.01
"""Bounds in GB per rank; a row of 512 tokens takes 0.012."""
SLACK = 0.03
REQUESTS, TOKENS = 20, 6


def test_requests_that_do_not_fit_together_wait_and_memory_stays_within_its_bound(
    shared: Shared, own: Callable[[Server], Server]
) -> None:
    bounds = ("--kv-cache-bytes", f"{RUNNING * 1000:.0f}MB", "--prefix-cache-bytes", f"{STORED * 1000:.0f}MB")
    server = own(start(2, *bounds))
    at_rest = memory(server.wait_until("healthy"))
    beginning = story("ferry")
    questions = [Question(f"{beginning}Say {number}.", TOKENS, 0.8, number) for number in range(REQUESTS)]
    expected = ask_each(shared(2), questions)
    with Watched(server) as watched:
        actual = ask_at_once(server, questions)
    for question, one, other in zip(questions, expected, actual, strict=True):
        assert is_right(question, one, other)
    assert len(watched.seen) > 5
    for seen in watched.seen:
        assert all(now <= before + RUNNING + STORED + SLACK for now, before in zip(seen, at_rest, strict=True))

    told = httpx.get(f"{server.url}/v1/models").json()["data"][0]
    assert 512 <= told["context_length"] == told["meta"]["n_ctx"] < 2048
    assert server.health()["context_length"] == told["context_length"]
    body = {"messages": [{"role": "user", "content": "word " * told["context_length"]}]}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert f"The model's context holds {told['context_length']} tokens" in answer.json()["error"]["message"]
    assert ask_at_once(server, questions[:1])[0].text == actual[0].text


def memory(health: dict[str, list[dict[str, float]]]) -> list[float]:
    """Of each rank, in GB."""
    return [rank["memory_gb"] for rank in health["ranks"]]


class Watched:
    """What /health says of memory while something goes on."""

    def __init__(self, server: Server) -> None:
        self.seen: list[list[float]] = []
        self._server = server
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(1)

    def __enter__(self) -> Watched:
        self._watching = self._pool.submit(self._watch)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watching.result()
        self._pool.shutdown()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self.seen.append(memory(self._server.health()))
