"""The sums of tensor parallel layers: what each rank computed of a hidden state, added up while the model is called.

mlx-lm's sharded layers call `mx.distributed.all_sum` wherever the ranks' shares meet. During a pass `TensorSums` stands
in its place and carries each sum at once: what is to be added is evaluated, the pieces travel one after another, each
evaluated, and only then is the next line of the model built on them. So a GPU never waits for another rank, no two
collectives are ever in flight, and all ranks make them in the order of the model's own lines.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

from mlxserve.pipeline.collective import PIECE_WORDS_PER_RANK, joined


class TensorSums:
    """Adds up over the ranks of `group`."""

    def __init__(self, group: mx.distributed.Group) -> None:
        self._group = group
        self._all_sum = mx.distributed.all_sum
        self._latency = 0.0
        self._quickest = math.inf
        self.given_bytes = 0
        """What this rank has put into sums, all together."""
        self.seconds = 0.0
        """What they took, all together, the waiting for other ranks included."""

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While a model is called to be computed: its sums are these."""
        mx.distributed.all_sum = self._sum
        try:
            yield
        finally:
            mx.distributed.all_sum = self._all_sum

    def latency(self) -> float:
        """Seconds of the quickest sum since this was asked last, or before; 0 where there was none."""
        if self._quickest < math.inf:
            self._latency, self._quickest = self._quickest, math.inf
        return self._latency

    def _sum(self, x: mx.array, *, group: Any = None, stream: Any = None) -> mx.array:
        """In the place of `mx.distributed.all_sum`: evaluated, and equal on all ranks."""
        try:
            mx.eval(x)
        except ValueError:  # within mx.compile, as in minimax's norms: a number a token, which is one piece
            return self._all_sum(x, group=self._group, stream=mx.cpu)
        started = time.perf_counter()
        total = self._carried(x)
        seconds = time.perf_counter() - started
        self.seconds += seconds
        self._quickest = min(self._quickest, seconds)
        self.given_bytes += x.nbytes
        return total

    def _carried(self, share: mx.array) -> mx.array:
        with mx.stream(mx.cpu):
            flat = share.reshape(-1)
            step = PIECE_WORDS_PER_RANK * self._group.size()
            pieces = []
            for first in range(0, flat.size, step):
                pieces.append(self._all_sum(flat[first : first + step], group=self._group, stream=mx.cpu))
                mx.eval(pieces[-1])
            total = joined(pieces).reshape(share.shape)
            mx.eval(total)
        return total


@contextmanager
def counted() -> Iterator[Callable[[], int]]:
    """How many sums a model makes while its graph is built, which is not to be computed."""
    original, count = mx.distributed.all_sum, 0

    def count_one(*args: Any, **kwargs: Any) -> mx.array:
        nonlocal count
        count += 1
        return original(*args, **kwargs)

    mx.distributed.all_sum = count_one
    try:
        yield lambda: count
    finally:
        mx.distributed.all_sum = original
