"""The limit of two ranks on one machine: a bare loop over half the layers in each of two processes, without a server.

What passes between them goes through pipes, at no more cost than copying it. Run as
`python -m tests.bench.bare_pipeline FOLDER reading TOKENS CHUNKS…`, for the seconds to the first token of a prompt cut
into so many chunks, or `… FOLDER speeds TOKENS BATCH…`; prints JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
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
    """Half of a model's layers, with caches."""

    def __init__(self, folder: str, second: bool) -> None:
        self.model: Any = load_model(Path(folder))[0]
        layers = self.model.model.layers
        middle = len(layers) // 2
        self._layers: list[nn.Module] = layers[middle:] if second else layers[:middle]
        self.begin(1)

    def begin(self, rows: int) -> None:
        """Forget all, for `rows` new sequences."""
        self._caches = [BatchKVCache([0] * rows) for _ in self._layers]

    def run(self, hidden: mx.array) -> mx.array:
        """Through the layers, evaluated: hidden states [rows, length, width]."""
        mask = create_attention_mask(hidden, self._caches[0])
        for layer, cache in zip(self._layers, self._caches, strict=True):
            hidden = layer(hidden, mask, cache)
        mx.eval(hidden, [cache.state for cache in self._caches])
        return hidden


class First:
    """The process with the first half, the embedding and the head; the second half is its child."""

    def __init__(self, folder: str) -> None:
        command = [sys.executable, "-m", "tests.bench.bare_pipeline", folder, "second"]
        self._second = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._second.stdin
        assert self._second.stdout
        self._out, self._in = self._second.stdin, self._second.stdout
        self._half = Half(folder, second=False)
        self._inner = self._half.model.model

    def close(self) -> None:
        """End the child."""
        self._out.close()
        self._second.wait()

    def begin(self, rows: int) -> None:
        """Forget all, on both sides."""
        self._half.begin(rows)
        _send(self._out, {"begin": rows})

    def enter(self, tokens: mx.array, leaves: bool) -> None:
        """Let `tokens` [rows, length] pass the first half; what `leaves` the second is to be taken by `next`."""
        hidden = self._half.run(self._inner.embed_tokens(tokens))
        _send(self._out, {"shape": hidden.shape, "leaves": leaves}, hidden)

    def next(self) -> mx.array:
        """The likeliest token of each row, from what left."""
        head = json.loads(self._in.readline())
        hidden = _array(self._in.read(head["bytes"]), head["shape"])
        logits = self._inner.embed_tokens.as_linear(self._inner.norm(hidden))[:, -1]
        token = mx.argmax(logits, axis=-1)
        mx.eval(token)
        return token


def second(folder: str) -> None:
    """The life of the process with the second half."""
    half = Half(folder, second=True)
    inbox: SimpleQueue[tuple[dict[str, Any], bytes]] = SimpleQueue()
    threading.Thread(target=_read_all, args=(sys.stdin.buffer, inbox.put), daemon=True).start()
    while True:
        head, content = inbox.get()
        if not head:
            return
        if "begin" in head:
            half.begin(head["begin"])
            continue
        hidden = half.run(_array(content, head["shape"]))
        if head["leaves"]:
            last = hidden[:, -1:]
            mx.eval(last)
            _send(sys.stdout.buffer, {"shape": last.shape}, last)


def reading(first: First, tokens: int, chunks: int) -> float:
    """Seconds to the first token of a prompt of so many `tokens`, in `chunks`."""
    prompt = mx.random.randint(0, 40_000, (1, tokens))
    mx.eval(prompt)
    first.begin(1)
    size = -(-tokens // chunks)
    start = perf_counter()
    for at in range(0, tokens, size):
        first.enter(prompt[:, at : at + size], leaves=at + size >= tokens)
    first.next()
    return perf_counter() - start


def speed(first: First, batch: int, tokens: int) -> float:
    """Tokens per second of `batch` sequences together, after the first."""
    first.begin(batch)
    first.enter(mx.random.randint(0, 40_000, (batch, 46)), leaves=True)
    token = first.next()
    start = perf_counter()
    for _ in range(tokens - 1):
        first.enter(token[:, None], leaves=True)
        token = first.next()
    return batch * (tokens - 1) / (perf_counter() - start)


def _read_all(stream: IO[bytes], put: Callable[[tuple[dict[str, Any], bytes]], None]) -> None:
    """So that the other side need not wait until what it sends is used."""
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


def main(folder: str, what: str, *numbers: str) -> None:
    compose(compile_for_this_processor())
    OwnProcessors(Place(int(what == "second"), world_size=2, backend="mpi"))
    if what == "second":
        second(folder)
        return
    first = First(folder)
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
