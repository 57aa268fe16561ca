"""What an exchange says, read when the clock has stopped."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from mlxserve.bench.server import Exchange
from mlxserve.remote import message

TEXT = ("content", "reasoning_content", "reasoning", "tool_calls", "refusal")
"""The fields of a delta that hold something generated."""


class Choice(msgspec.Struct):
    """What of a choice matters here."""

    delta: dict[str, Any] | None = None
    text: str | None = None
    finish_reason: str | None = None


class Chunk(msgspec.Struct):
    """What of a chunk matters here."""

    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


class Answer(msgspec.Struct, frozen=True):
    """One answer; times are those of time.perf_counter, in seconds.

    `events` are the times at which something generated came. `tokens` are the server's count where `by_usage`, else
    the number of events.
    """

    sent: float
    ended: float
    events: list[float] = []
    tokens: int = 0
    by_usage: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0
    retries: int = 0
    error: str = ""

    @property
    def first_token(self) -> float:
        """Seconds from the request to the first event."""
        return self.events[0] - self.sent

    @property
    def gaps(self) -> list[float]:
        """Seconds between tokens: between events, less where events hold several tokens on average."""
        times = zip(self.events, self.events[1:], strict=False)
        share = min(1.0, (len(self.events) - 1) / max(1, self.tokens - 1))
        return [share * (later - earlier) for earlier, later in times]


_decoder = msgspec.json.Decoder(Chunk)


def read(exchange: Exchange) -> Answer:
    """The answer of `exchange`; what is wrong with it is in its `error`."""
    ended = exchange.pieces[-1][0] if exchange.pieces else exchange.sent
    if error := exchange.error or _refusal(exchange):
        return Answer(exchange.sent, ended, retries=exchange.retries, error=error)
    try:
        return _read_stream(exchange, ended)
    except msgspec.DecodeError as broken:
        return Answer(exchange.sent, ended, retries=exchange.retries, error=f"a broken event: {broken}")


def _refusal(exchange: Exchange) -> str:
    body = b"".join(piece for _, piece in exchange.pieces)
    if exchange.status != 200:
        return f"status {exchange.status}: {message(body)}".rstrip(": ")
    if exchange.kind != "text/event-stream":
        return f"answered with {exchange.kind} instead of text/event-stream: it does not stream"
    return ""


def _read_stream(exchange: Exchange, ended: float) -> Answer:
    events: list[float] = []
    usage: dict[str, Any] = {}
    finished, error = False, ""
    for at, line in _lines(exchange.pieces):
        if line == b"[DONE]":
            finished = True
            continue
        chunk = _decoder.decode(line)
        usage = chunk.usage or usage
        error = error or (f"failed while it answered: {message(line)}" if chunk.error else "")
        finished = finished or any(choice.finish_reason for choice in chunk.choices or ())
        if any(_generated(choice) for choice in chunk.choices or ()):
            events.append(at)
    error = error or ("" if finished else "the stream ended before its end") or ("" if events else "an empty answer")
    counted = usage.get("completion_tokens")
    return Answer(
        sent=exchange.sent,
        ended=ended,
        events=events,
        tokens=counted or len(events),
        by_usage=bool(counted),
        prompt_tokens=usage.get("prompt_tokens") or 0,
        cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        retries=exchange.retries,
        error=error,
    )


def _lines(pieces: list[tuple[float, bytes]]) -> Iterator[tuple[float, bytes]]:
    """The data of each event, with the time at which its line was complete."""
    rest = b""
    for at, piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield at, line[5:].strip()


def _generated(choice: Choice) -> bool:
    delta = choice.delta or {}
    return bool(choice.text) or any(delta.get(name) for name in TEXT)
