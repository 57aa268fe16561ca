"""A stage: this rank's layers and KV caches, and what a plan does to them."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache

from mlxserve.pipeline.caches import BatchCaches, Layout, feed
from mlxserve.pipeline.form import Form
from mlxserve.pipeline.model_trace import Trace
from mlxserve.pipeline.plan import CacheOperation, Drop, Item, Join, Keep, Move, Open, Split, Store, Trim
from mlxserve.pipeline.relay import Parcel
from mlxserve.pipeline.segments import Segments
from mlxserve.pipeline.slots import Walk

_LOGITS = Form(("rows", "length", "unknown"), mx.float32)


class Stage:
    """Runs `calls`, a range of the model's layer calls. The first stage also embeds and has the model's tail."""

    def __init__(self, model: nn.Module, walk: Walk, trace: Trace, calls: range) -> None:
        self._model = model
        self._walk = walk
        self._trace = trace
        self._calls = calls
        self._batches: dict[int, BatchCaches] = {}
        caches = make_prompt_cache(model)
        uncalled = frozenset(range(len(caches))) - frozenset[int]().union(*trace.caches_of_call)
        own = frozenset[int]().union(*trace.caches_of_call[calls.start : calls.stop])
        own |= uncalled if calls.start == 0 else frozenset()
        self.layout = Layout(lambda: make_prompt_cache(model), own, trace.used_caches)
        self._uncalled = uncalled
        """The caches that no layer is given: the model uses them itself, before the layers."""
        self._tail_caches = caches
        feed([caches[index] for index in sorted(trace.used_caches)], 1, 1)
        self.segments = Segments()

    @property
    def cuttable(self) -> bool:
        """Whether all caches can be cut after any token."""
        return self.layout.cuttable

    @property
    def batchable(self) -> bool:
        """Whether several sequences can share a batch."""
        return self.layout.batchable

    def parcels(self, cut: int, rows: int, length: int) -> list[Parcel]:
        """What travels across `cut` of an item of `rows` and `length`."""
        return [Parcel(form.shape(rows, length), form.dtype) for form in self._trace.crossing(cut)]

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
                self._batches[operation.batch].keep(operation.rows, operation.spare)
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

    def forward(self, item: Item, incoming: list[mx.array], tokens: mx.array | None = None) -> list[mx.array]:
        """Run this stage's layers on `item`: from its tokens, or from what is `incoming` from the stage before.

        `tokens` [rows, length], where given, stand for the item's.

        Returns what the next stage needs, nearly always one hidden state [rows, length, width]; not yet evaluated.
        """
        self._walk.at_once = True
        self._pass(mx.array(item.tokens) if tokens is None else tokens, item, incoming)
        self._walk.at_once = False
        return self._walk.outgoing

    def forward_whole(self, tokens: mx.array, item: Item, start: bool = False) -> mx.array | None:
        """Run all layers and the tail on `tokens` [rows, length], on the one rank there is.

        Returns logits as `finish` does, or None where the item wants none; neither is evaluated. With `start` the first
        layer is being computed by then.
        """
        self._walk.first_apart = start
        output: mx.array = self._pass(tokens, item, [])
        if start:
            self._walk.start()
        if item.logits == "none":
            return None
        if item.length == 1 or item.logits == "all":
            return output
        if self._trace.obstacle:
            return _LOGITS.at_positions(output, item.last_positions)
        return self.finish(self.leaving(self._walk.outgoing, item), item)

    def probe(self, item: Item, incoming: list[mx.array]) -> None:
        """Build the graph of `item` without computing it: what the model cannot do raises here."""
        self._pass(mx.array(item.tokens), item, incoming)

    def reset(self) -> None:
        """Forget all batches."""
        self._batches.clear()

    def leaving(self, outgoing: list[mx.array], item: Item) -> list[mx.array]:
        """Of what the last stage hands on, the positions that the tail needs."""
        if item.leaving_length() == item.length:
            return outgoing
        forms = self._trace.crossing(len(self._trace.layer_of_call))
        return [form.at_positions(each, item.last_positions) for form, each in zip(forms, outgoing, strict=True)]

    def finish(self, leaving: list[mx.array], item: Item) -> mx.array:
        """The model's tail on what left the last stage: logits [rows, positions, vocabulary], not evaluated."""
        shape = (item.rows, item.leaving_length())
        self._walk.finish(leaving, *shape)
        logits: mx.array = self._model(mx.zeros(shape, mx.int32), cache=self._caches_of_tail())
        return logits

    def caches(self, batch: int) -> list[Any]:
        """Every single cache of `batch`."""
        return self._batches[batch].each

    def state(self, batch: int) -> list[Any]:
        """The arrays in the caches of `batch`, to be evaluated."""
        return self._batches[batch].state

    def _caches_of_tail(self) -> list[Any]:
        """Caches that the tail may look at; no layer changes them, and those that the model itself changes are new."""
        caches = list(self._tail_caches)
        for index in self._uncalled:
            caches[index] = make_prompt_cache(self._model)[index]
        return caches

    def _pass(self, tokens: mx.array, item: Item, incoming: list[mx.array]) -> Any:
        caches = self._batches[item.batch]
        if item.lengths:
            caches.pad(item.lengths, item.length)
        self._walk.run(self._calls, incoming, item.rows, item.length)
        output = self._model(tokens, cache=caches.view)
        caches.feed_ghosts(item.length)
        if item.lengths:
            caches.unpad()
        caches.shed()
        return output
