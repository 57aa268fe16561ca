"""A stage: this rank's layers and KV caches, and what a plan does to them."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache

from mlxserve.pipeline.caches import BatchCaches, Layout
from mlxserve.pipeline.plan import CacheOperation, Drop, Item, Join, Keep, Move, Open, Split, Store, Trim
from mlxserve.pipeline.segments import Segments
from mlxserve.pipeline.slots import Walk
from mlxserve.pipeline.split import Boundary, Trace


class Stage:
    """Runs `calls`, a range of the model's layer calls. The first stage also embeds and has the model's tail."""

    def __init__(self, model: nn.Module, walk: Walk, trace: Trace, calls: range) -> None:
        self._model = model
        self._walk = walk
        self._trace = trace
        self._calls = calls
        self._batches: dict[int, BatchCaches] = {}
        own: frozenset[int] = frozenset().union(*(trace.caches_of_call[call] for call in calls))
        self.layout = Layout(lambda: make_prompt_cache(model), own)
        self._whole = len(calls) == len(trace.layer_of_call)
        self._no_caches = make_prompt_cache(model)
        self.segments = Segments()

    @property
    def cuttable(self) -> bool:
        """Whether all caches can be cut after any token."""
        return self.layout.cuttable

    @property
    def batchable(self) -> bool:
        """Whether several sequences can share a batch."""
        return self.layout.batchable

    def boundary(self, call: int) -> Boundary:
        """What leaves `call`."""
        return self._trace.boundaries[call]

    def apply(self, operation: CacheOperation) -> None:
        """Carry out one operation on the caches."""
        match operation:
            case Open():
                prefixes = [self.segments.prefix(spans) for spans in operation.prefixes]
                self._batches[operation.batch] = self.layout.open(operation.rows, prefixes)
            case Join():
                joining = self._batches.pop(operation.joining)
                if running := self._batches.get(operation.batch):
                    running.join(joining)
                else:
                    self._batches[operation.batch] = joining
            case Keep(rows=[]):
                del self._batches[operation.batch]
            case Keep():
                self._batches[operation.batch].keep(operation.rows)
            case Move():
                self._batches[operation.to] = self._batches[operation.batch].take(operation.rows)
            case Trim():
                self._batches[operation.batch].trim(operation.counts)
            case Store():
                caches = self._batches[operation.batch]
                self.segments.store(operation.key, caches.segment(operation.row, operation.start, operation.stop))
            case Split():
                self.segments.split(operation.key, operation.at, operation.head)
            case Drop():
                self.segments.drop(operation.key)

    def forward(self, item: Item, incoming: mx.array | None, tokens: mx.array | None = None) -> mx.array:
        """Run this stage's layers on `item`: from its tokens, or from the `incoming` hidden state of the stage before.

        `tokens` [rows, length], where given, stand for the item's.

        Returns the hidden state [rows, length, width] for the next stage, not yet evaluated.
        """
        self._walk.at_once = True
        self._pass(mx.array(item.tokens) if tokens is None else tokens, item, incoming)
        self._walk.at_once = False
        assert self._walk.outgoing is not None
        return self._walk.outgoing

    def forward_whole(self, tokens: mx.array, item: Item) -> mx.array | None:
        """Run all layers and the tail on `tokens` [rows, length], on the one rank there is.

        Returns logits as `finish` does, or None where the item wants none; neither is evaluated.
        """
        output: mx.array = self._pass(tokens, item, None)
        if item.logits == "none":
            return None
        if item.length == 1 or item.logits == "all":
            return output
        if self._trace.obstacle:
            return _at_last_positions(output, item)
        assert self._walk.outgoing is not None
        return self.finish(self.leaving(self._walk.outgoing, item), item)

    def probe(self, item: Item, incoming: mx.array | None) -> None:
        """Build the graph of `item` without computing it: what the model cannot do raises here."""
        self._pass(mx.array(item.tokens), item, incoming)

    def reset(self) -> None:
        """Forget all batches."""
        self._batches.clear()

    def leaving(self, hidden: mx.array, item: Item) -> mx.array:
        """Of what the last layer returned, the positions that the tail needs."""
        return hidden if item.leaving_length() == item.length else _at_last_positions(hidden, item)

    def finish(self, hidden: mx.array, item: Item) -> mx.array:
        """The model's tail on what left the last layer: logits [rows, positions, vocabulary], not evaluated."""
        self._walk.finish(hidden)
        logits: mx.array = self._model(mx.zeros(hidden.shape[:2], mx.int32), cache=self._no_caches)
        return logits

    def caches(self, batch: int) -> list[Any]:
        """Every single cache of `batch`."""
        return self._batches[batch].each

    def state(self, batch: int) -> list[Any]:
        """The arrays in the caches of `batch`, to be evaluated."""
        return self._batches[batch].state

    def _pass(self, tokens: mx.array, item: Item, incoming: mx.array | None) -> Any:
        caches = self._batches[item.batch]
        if item.lengths:
            caches.pad(item.lengths, item.length)
        self._walk.run(self._calls, incoming)
        output = self._model(tokens, cache=caches.view)
        caches.feed_ghosts(item.length)
        if item.lengths:
            caches.unpad()
        caches.shed()
        return output


def _at_last_positions(values: mx.array, item: Item) -> mx.array:
    """`values` [rows, length, ...] at each row's last token: [rows, 1, ...]."""
    if not item.lengths:
        return values[:, -1:]
    return values[mx.arange(item.rows), mx.array(item.last_positions)][:, None]
