"""An answer as it comes: text, reasoning, tool calls, and in the end what it took."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import Any

import msgspec

from mlxserve.errors import UserError
from mlxserve.remote import Refused, Remote, message


class Function(msgspec.Struct):
    """What of a called function came with a chunk."""

    name: str | None = None
    arguments: str | None = None


class Call(msgspec.Struct):
    """What of a tool call came with a chunk."""

    function: Function = msgspec.field(default_factory=Function)


class Delta(msgspec.Struct):
    """What a chunk adds; servers call reasoning by either name."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Call] | None = None

    @property
    def thought(self) -> str:
        """The reasoning."""
        return self.reasoning_content or self.reasoning or ""

    @property
    def called(self) -> str:
        """The tool calls, as they would be written."""
        functions = [call.function for call in self.tool_calls or []]
        return "".join(f"\n{one.name}" * bool(one.name) + (one.arguments or "") for one in functions)


class Choice(msgspec.Struct):
    delta: Delta = msgspec.field(default_factory=Delta)


class Chunk(msgspec.Struct):
    choices: list[Choice] = []
    usage: dict[str, Any] | None = None
    error: Any = None


_decode = msgspec.json.Decoder(Chunk).decode


class Answer:
    """Streams from the server while `deltas` is iterated."""

    def __init__(self, remote: Remote, body: bytes) -> None:
        self._remote = remote
        self._body = body
        self._first: float | None = None
        self._began = self._last = 0.0
        self._events = 0
        self._usage: dict[str, Any] = {}

    def deltas(self) -> Generator[Delta, None, None]:
        """What comes. Closing the iterator lets the server stop. Raises UserError."""
        self._began = time.perf_counter()
        with self._remote.asked("POST", "/v1/chat/completions", self._body) as response:
            if response.status != 200:
                raise Refused(response.status, message(response.read()))
            for line in response:
                if line.startswith(b"data:") and (data := line[5:].strip()) != b"[DONE]":
                    yield from self._read(data)

    @property
    def figures(self) -> str:
        """How many tokens came how fast, for people; empty where none came."""
        if self._first is None:
            return ""
        tokens = int(self._usage.get("completion_tokens") or self._events)
        seconds = self._last - self._first
        rate = f", {(tokens - 1) / seconds:.1f} tokens/s" if tokens > 1 and seconds > 0 else ""
        return f"{tokens} token{'s' * (tokens != 1)}{rate}, the first after {self._first - self._began:.2f} s"

    def _read(self, data: bytes) -> Iterator[Delta]:
        try:
            chunk = _decode(data)
        except msgspec.DecodeError as error:
            raise UserError(f"{self._remote.url} sent what is no event of a chat: {error}") from error
        if chunk.error:
            raise UserError(message(data))
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices:
            if choice.delta.content or choice.delta.thought or choice.delta.called:
                self._last = time.perf_counter()
                self._first = self._first or self._last
                self._events += 1
                yield choice.delta
