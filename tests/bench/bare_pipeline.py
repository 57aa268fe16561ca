"""The limit of two ranks on one machine: a bare loop over half the layers in each of two processes, without a server.

What passes between them goes through pipes, at no more cost than copying it. Run as
`python -m tests.bench.bare_pipeline FOLDER LOTS reading TOKENS CHUNKS…`, for the seconds to the first token of a prompt
cut into so many chunks, or `… FOLDER LOTS speeds TOKENS BATCH…`; prints JSON. Each process has so many lots of layers,
and the two take turns: with 1 as ranks do, with more a prompt passes to and fro, so that neither waits long for the
other at its ends.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from queue import SimpleQueue
from statistics import median
from time import perf_counter
from typing import IO, Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.base import create_attention_mask
from mlx_lm.models.cache import BatchKVCache
from mlx_lm.utils import load_model

from mlxserve.config import Place
from mlxserve.engine.kernels import compile_for_this_processor
from mlxserve.engine.processors import OwnProcessors
from mlxserve.pipeline.composed import compose

READINGS = 3


class Half:
    """Half of a model's layers, in lots that a state passes one by one, with caches."""

    def __init__(self, folder: str, lots: int, second: bool) -> None:
        self.model: Any = load_model(Path(folder))[0]
        layers = self.model.model.layers
        borders = [round(len(layers) * number / (2 * lots)) for number in range(2 * lots + 1)]
        both = [layers[begin:end] for begin, end in pairwise(borders)]
        self._lots: list[list[nn.Module]] = both[second::2]
        self.begin(1)

    def begin(self, rows: int) -> None:
        """Forget all, for `rows` new sequences."""
        self._caches = [[BatchKVCache([0] * rows) for _ in lot] for lot in self._lots]

    def run(self, lot: int, hidden: mx.array) -> mx.array:
        """Through the layers of a lot, evaluated: hidden states [rows, length, width]."""
        caches = self._caches[lot]
        mask = create_attention_mask(hidden, caches[0])
        for layer, cache in zip(self._lots[lot], caches, strict=True):
            hidden = layer(hidden, mask, cache)
        mx.eval(hidden, [cache.state for cache in caches])
        return hidden


class First:
    """The process with the first half, the embedding and the head; the second half is its child."""

    def __init__(self, folder: str, lots: int) -> None:
        command = [sys.executable, "-m", "tests.bench.bare_pipeline", folder, str(lots), "second"]
        self._second = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._second.stdin
        assert self._second.stdout
        self._out = self._second.stdin
        self._inbox = _inbox(self._second.stdout)
        self._back: dict[tuple[int, int], mx.array] = {}
        self._half = Half(folder, lots, second=False)
        self._inner = self._half.model.model
        self._lots = lots

    def close(self) -> None:
        """End the child."""
        self._out.close()
        self._second.wait()

    def begin(self, rows: int) -> None:
        """Forget all, on both sides."""
        self._half.begin(rows)
        _send(self._out, {"begin": rows})

    def read(self, chunks: list[mx.array]) -> mx.array:
        """The likeliest token of each row, from chunks of tokens [rows, length] that pass all lots.

        Two by two: while the other process has one, the other one is here.
        """
        for first in range(0, len(chunks), 2):
            for lot in range(self._lots):
                for number in range(first, min(first + 2, len(chunks))):
                    self._enter(number, lot, chunks[number], leaves=number == len(chunks) - 1)
        hidden = self._came(len(chunks) - 1, self._lots - 1)
        logits = self._inner.embed_tokens.as_linear(self._inner.norm(hidden))[:, -1]
        token = mx.argmax(logits, axis=-1)
        mx.eval(token)
        return token

    def _enter(self, number: int, lot: int, tokens: mx.array, leaves: bool) -> None:
        """Let a chunk pass a lot here; of the last one comes back what `leaves`, of the others everything."""
        before = self._came(number, lot - 1) if lot else self._inner.embed_tokens(tokens)
        hidden = self._half.run(lot, before)
        back = "all" if lot < self._lots - 1 else "last" if leaves else "none"
        _send(self._out, {"number": number, "lot": lot, "shape": hidden.shape, "back": back}, hidden)

    def _came(self, number: int, lot: int) -> mx.array:
        """What comes back of a chunk from that lot, waited for."""
        while (number, lot) not in self._back:
            head, content = self._inbox.get()
            self._back[head["number"], head["lot"]] = _array(content, head["shape"])
        return self._back.pop((number, lot))


def second(folder: str, lots: int) -> None:
    """The life of the process with the second half."""
    half = Half(folder, lots, second=True)
    inbox = _inbox(sys.stdin.buffer)
    while True:
        head, content = inbox.get()
        if not head:
            return
        if "begin" in head:
            half.begin(head["begin"])
            continue
        hidden = half.run(head["lot"], _array(content, head["shape"]))
        if head["back"] == "none":
            continue
        if head["back"] == "last":
            hidden = hidden[:, -1:]
            mx.eval(hidden)
        _send(sys.stdout.buffer, head | {"shape": hidden.shape}, hidden)


def reading(first: First, tokens: int, chunks: int) -> float:
    """Seconds to the first token of a prompt of so many `tokens`, in `chunks`."""
    prompt = mx.random.randint(0, 40_000, (1, tokens))
    mx.eval(prompt)
    first.begin(1)
    size = -(-tokens // chunks)
    start = perf_counter()
    first.read([prompt[:, at : at + size] for at in range(0, tokens, size)])
    return perf_counter() - start


def speed(first: First, batch: int, tokens: int) -> float:
    """Tokens per second of `batch` sequences together, after the first."""
    first.begin(batch)
    token = first.read([mx.random.randint(0, 40_000, (batch, 46))])
    start = perf_counter()
    for _ in range(tokens - 1):
        token = first.read([token[:, None]])
    return batch * (tokens - 1) / (perf_counter() - start)


def _inbox(stream: IO[bytes]) -> SimpleQueue[tuple[dict[str, Any], bytes]]:
    """What comes, read by a thread, so that the other side need not wait until it is used."""
    inbox: SimpleQueue[tuple[dict[str, Any], bytes]] = SimpleQueue()
    threading.Thread(target=_read_all, args=(stream, inbox.put), daemon=True).start()
    return inbox


def _read_all(stream: IO[bytes], put: Callable[[tuple[dict[str, Any], bytes]], None]) -> None:
    while line := stream.readline():
        head = json.loads(line)
        put((head, stream.read(head.get("bytes", 0))))
    put(({}, b""))


def _send(stream: IO[bytes], head: dict[str, Any], content: mx.array | None = None) -> None:
    body = b"" if content is None else bytes(memoryview(content))  # type: ignore[arg-type]
    stream.write(json.dumps({**head, "bytes": len(body)}).encode() + b"\n" + body)
    stream.flush()


def _array(content: bytes, shape: list[int]) -> mx.array:
    return mx.array(memoryview(content).cast("f")).reshape(shape)


def main(folder: str, lots: str, what: str, *numbers: str) -> None:
    compose(compile_for_this_processor())
    OwnProcessors(Place(int(what == "second"), world_size=2, backend="mpi"))
    if what == "second":
        second(folder, int(lots))
        return
    first = First(folder, int(lots))
    size, *cases = map(int, numbers)
    if what == "reading":
        reading(first, 64, 1)
        found = [median(reading(first, size, chunks) for _ in range(READINGS)) for chunks in cases]
    else:
        speed(first, 1, 4)
        found = [speed(first, batch, size) for batch in cases]
    first.close()
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
