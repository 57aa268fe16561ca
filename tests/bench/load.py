"""The load: streamed chats, many at a time.

It shares the cores with the server under test. So a stream's thread only notes when each line came, and what the
lines say is read when the clock has stopped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from itertools import count, islice
from statistics import median
from time import perf_counter
from typing import Any

import msgspec

TIMEOUT = 120
"""Seconds without a byte after which a stream counts as stuck."""
WARM_UP_TOKENS = 4
WORDS = ("teapot", "lighthouse", "glacier", "violin", "bakery", "comet", "harbour", "meadow", "engine", "library")

Messages = list[dict[str, str]]


class LoadError(Exception):
    """A server did not answer as asked."""


class Speed(msgspec.Struct, frozen=True):
    """Of all streams together: tokens per second; of the median stream: seconds to the first text."""

    tokens_per_second: float
    first_token: float | None = None


class Chat(msgspec.Struct, frozen=True):
    """One answer: when its request was sent, and each line of it with the time it came."""

    sent: float
    lines: list[tuple[float, bytes]]

    def tokens(self) -> int:
        """How many tokens the server says it generated."""
        counted = (chunk["usage"]["completion_tokens"] for _, chunk in self._chunks() if chunk.get("usage"))
        return max(counted, default=0)

    def first_token(self) -> float:
        """Seconds until the first piece of text."""
        for at, chunk in self._chunks():
            if any(choice.get("delta", {}).get("content") for choice in chunk.get("choices", ())):
                return at - self.sent
        raise LoadError("an answer held no text")

    def _chunks(self) -> Iterator[tuple[float, dict[str, Any]]]:
        for at, line in self.lines:
            if line.startswith(b"data: {"):
                yield at, json.loads(line[6:])


class Load:
    """Chats with the server on `port`, no two with the same prompt.

    With `common_prefix` all begin with the template's own system prompt, which a server may keep and not read again.
    """

    def __init__(self, port: int, common_prefix: bool) -> None:
        self._port = port
        self._prompts = map(_user_alone if common_prefix else _with_system, count(100))

    def measure(self, streams: int, tokens: int) -> Speed:
        """The speed of `streams` chats at a time, `tokens` tokens each, prompts counted, after a warm-up."""
        self._together(streams, WARM_UP_TOKENS)
        start = perf_counter()
        chats = self._together(streams, tokens)
        seconds = perf_counter() - start
        for chat in chats:
            if chat.tokens() != tokens:
                raise LoadError(f"an answer had {chat.tokens()} tokens instead of {tokens}")
        return Speed(streams * tokens / seconds, median(chat.first_token() for chat in chats))

    def _together(self, streams: int, tokens: int) -> list[Chat]:
        pool = ThreadPoolExecutor(streams)
        try:
            return list(pool.map(lambda messages: self._chat(messages, tokens), islice(self._prompts, streams)))
        finally:
            pool.shutdown(wait=False)  # on Ctrl-C the threads end with the server

    def _chat(self, messages: Messages, tokens: int) -> Chat:
        body = {
            "messages": messages,
            "max_tokens": tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        connection = HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT)
        try:
            sent = perf_counter()
            connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            if response.status != 200:
                raise LoadError(f"a chat was answered with status {response.status}: {response.read(500)!r}")
            return Chat(sent, [(perf_counter(), line) for line in response])
        finally:
            connection.close()


def _user_alone(number: int) -> Messages:
    one, other = WORDS[number % len(WORDS)], WORDS[(number * 7 + 3) % len(WORDS)]
    return [{"role": "user", "content": f"{number} things that a {one} and a {other} have in common?"}]


def _with_system(number: int) -> Messages:
    """About as long as the template's own system prompt makes it, but different from the first word on."""
    content = f"{number} is your number, and you are a helpful assistant who answers it."
    return [{"role": "system", "content": content}, *_user_alone(number)]
