"""`python -m tests.bench.front`: what the node's own part of a streamed token costs, the engine left out.

The node is the real one, in a process of its own; this process is its engine and its clients. As engine it says the
next step of a batch as soon as the last one has reached all clients, so that no two tokens go out together. As clients
it only counts bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
from tokenizers import Tokenizer

from mlxserve.engine.messages import Checked, Command, Event, ModelFound, NewToken, RankFacts, Ready, Step, Submit
from mlxserve.models.source import find_model
from tests.ports import free_port

BATCHES = (1, 8, 32)
EVENTS = 20_000
"""Of all streams together, for each batch."""
PROMPT_TOKENS = 600
PROMPTS = 50
CONTEXT_LENGTH = 1 << 30
WORD = re.compile("Ġ[a-z]+")
START_TIMEOUT = 60
"""Seconds."""

_decoder = msgspec.msgpack.Decoder(Command)


class Figures(msgspec.Struct, frozen=True):
    """One batch, streamed, an event for each token. The node may have waited for this process meanwhile."""

    batch: int
    events_per_second: float
    cpu_microseconds: float
    """Of the node, for each event."""


class Report(msgspec.Struct, frozen=True):
    """All that is measured. A prompt's milliseconds are the node's CPU time for a whole request with a short answer."""

    batches: list[Figures]
    prompt_tokens: int
    prompt_milliseconds: float


class Node:
    """The node under test, with its engine's end of the pipe."""

    def __init__(self, process: subprocess.Popen[str], port: int, pipe: Connection) -> None:
        self._process = process
        self._pipe = pipe
        self.port = port

    def say(self, event: Event) -> None:
        """Tell the node, as an engine."""
        self._pipe.send_bytes(msgspec.msgpack.encode(event))

    def submitted(self) -> Submit:
        """The next sequence that the node wants, waited for."""
        while not isinstance(command := _decoder.decode(self._pipe.recv_bytes()), Submit):
            pass
        return command

    def seconds(self) -> float:
        """CPU time that the node has used so far."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())


class Streams:
    """Open streams of chats, read as bytes. Each token begins with a space, and so does each event's data."""

    def __init__(self, port: int, count: int) -> None:
        self._sockets = [_asked(port, _chat("Tell me a story.", stream=True)) for _ in range(count)]
        self._last = dict.fromkeys(self._sockets, b"")
        self.tokens = dict.fromkeys(self._sockets, 0)
        self.events = 0
        self._selector = selectors.DefaultSelector()
        for stream in self._sockets:
            self._selector.register(stream, selectors.EVENT_READ)

    def read(self) -> None:
        """What has come, waited for."""
        for key, _ in self._selector.select():
            stream: Any = key.fileobj
            data = stream.recv(1 << 16)
            if not data:
                raise ConnectionError("the node ended a stream")
            events = (self._last[stream] + data).count(b"\n\n")
            self._last[stream] = data[-1:]
            self.events += events
            self.tokens[stream] += data.count(b" ") - events

    def begin(self) -> None:
        """Read the first event of each, which is not counted."""
        for stream in self._sockets:
            data = b""
            while not data.endswith(b"\n\n\r\n"):
                data += stream.recv(1 << 16)

    def read_to_the_end(self) -> None:
        """The rest of all streams."""
        self._selector.close()
        for stream in self._sockets:
            stream.setblocking(True)
            while stream.recv(1 << 16):
                pass
            stream.close()


def measure(batches: tuple[int, ...] = BATCHES, events: int = EVENTS, prompts: int = PROMPTS) -> Report:
    """Start a node, stream `events` events in each of `batches`, have it read `prompts` long prompts."""
    folder = find_model("demo", lambda text: None).folder
    words = _words(folder)
    with _node(folder) as node:
        _stream(node, words, max(batches), 50 * max(batches))  # a warm-up
        figures = [_stream(node, words, batch, events) for batch in batches]
        return Report(figures, PROMPT_TOKENS, 1000 * _read_prompts(node, words, prompts))


def _stream(node: Node, words: list[int], batch: int, events: int) -> Figures:
    streams = Streams(node.port, batch)
    numbers = [node.submitted().id for _ in range(batch)]
    tokens = cycle(words)
    node.say(_step(numbers, tokens))
    streams.begin()
    seconds, started = node.seconds(), perf_counter()
    for said in range(1, events // batch + 1):
        node.say(_step(numbers, tokens))
        while min(streams.tokens.values()) < said:
            streams.read()
    wall, seconds = perf_counter() - started, node.seconds() - seconds
    node.say(Step([NewToken(number, words[0], "length") for number in numbers], []))
    streams.read_to_the_end()
    return Figures(batch, streams.events / wall, 1e6 * seconds / streams.events)


def _read_prompts(node: Node, words: list[int], count: int) -> float:
    """Seconds of the node's CPU time for each."""
    text = "the quick brown fox jumps over the lazy dog and " * (PROMPT_TOKENS // 10)
    seconds = node.seconds()
    for number in range(count):
        answer = _asked(node.port, _chat(f"{number}: {text}", stream=False))
        submitted = node.submitted()
        assert len(submitted.prompt) >= PROMPT_TOKENS
        node.say(Step([NewToken(submitted.id, words[0], "length")], []))
        while answer.recv(1 << 16):
            pass
        answer.close()
    return (node.seconds() - seconds) / count


def _step(numbers: list[int], tokens: Iterator[int]) -> Step:
    return Step([NewToken(number, next(tokens)) for number in numbers], [])


def _words(folder: Path) -> list[int]:
    """Tokens that are a space and a word, which the tokenizer's file writes with a letter for the space."""
    vocabulary = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    return sorted(number for text, number in vocabulary.items() if WORD.fullmatch(text))[:1000]


def _chat(text: str, stream: bool) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}], "stream": stream}).encode()


def _asked(port: int, body: bytes) -> socket.socket:
    """A connection on which `body` was sent as a chat."""
    connection = socket.create_connection(("127.0.0.1", port))
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    connection.sendall(f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


@contextmanager
def _node(folder: Path) -> Iterator[Node]:
    ours, theirs = socket.socketpair()
    port = free_port()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.front_node", str(port), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    pipe = Connection(ours.detach())
    try:
        with pipe:
            node = Node(process, port, pipe)
            node.say(Checked())
            node.say(ModelFound(str(folder)))
            node.say(Ready("llama", 49152, CONTEXT_LENGTH, "none", 30, True, True, [RankFacts(0, "", 0, "", 0, 29, 0)]))
            _await_healthy(port)
            yield node
        process.wait(START_TIMEOUT)
    finally:
        process.kill()
        process.wait()


def _await_healthy(port: int) -> None:
    started = perf_counter()
    while perf_counter() - started < START_TIMEOUT:
        try:
            with socket.create_connection(("127.0.0.1", port)) as probe:
                probe.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                if b" 200 " in probe.recv(1 << 16):
                    return
        except OSError:
            pass  # it does not listen yet
    raise TimeoutError(f"the node did not serve within {START_TIMEOUT} s")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.front", description=measure.__doc__)
    parser.add_argument("--events", type=int, default=EVENTS, metavar="N", help="events of each batch")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    args = parser.parse_args()
    report = measure(events=args.events)
    if args.json:
        print(msgspec.json.encode(report).decode())
        return
    for one in report.batches:
        cost = f"{one.cpu_microseconds:7.1f} µs of CPU an event"
        print(f"{one.batch:3} streams: {one.events_per_second:8.0f} events/s {cost}")
    print(f"a prompt of {report.prompt_tokens} tokens: {report.prompt_milliseconds:.2f} ms of CPU")


if __name__ == "__main__":
    main()
