"""Slots: what stands in the model's lists of layers in the layers' place.

The model's own `__call__` runs unchanged. Each time it calls a slot, the walk decides whether the layer runs, or what
another rank's layer returned is taken in. What nobody reads is never computed.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn

from mlxserve.errors import UserError
from mlxserve.pipeline.cargo import Cargo, Source
from mlxserve.pipeline.form import Form
from mlxserve.pipeline.tree import arrays_in, mapped


class Recorder(Protocol):
    """Calls layers in the walk's stead; what it returns stands for what layer number `index` returned."""

    def __call__(self, index: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...


class Walk:
    """One pass through the model's layers: which calls run here, what is taken in, what comes out."""

    def __init__(self, layers: list[nn.Module]) -> None:
        self._layers = layers
        self._cargo = Cargo.unknown()
        self._here = range(0)
        self._shape = (1, 1)
        self._held: dict[Source, mx.array] = {}
        self._blanks: dict[Form, mx.array] = {}
        self._next = 0
        self._first: list[mx.array] = []
        self._recorder: Recorder | None = None
        self.at_once = False
        """Start to compute each layer as soon as its graph is built, while the next one's is being built."""
        self.first_apart = False
        """Remember what the first call returned, for `start`."""

    @property
    def layers(self) -> list[nn.Module]:
        """The layers themselves, in the model's order."""
        return self._layers

    @property
    def outgoing(self) -> list[mx.array]:
        """After a pass, what the calls that follow need of it; empty if it could not be handed on."""
        return [self._held[source] for source in self._cargo.across(self._here.stop)]

    def carry(self, cargo: Cargo) -> None:
        """From now on hand on what `cargo` says."""
        self._cargo = cargo

    def run(self, calls: range, incoming: list[mx.array], rows: int, length: int) -> None:
        """Next time the model is called, with tokens [rows, length], run `calls`.

        `incoming` is what those before them handed on; empty where there are none.
        """
        self._here, self._shape = calls, (rows, length)
        self._held = dict(zip(self._cargo.across(calls.start), incoming, strict=True)) if calls.start > 0 else {}
        self._blanks = {}
        self._next = 0

    def start(self) -> None:
        """After a pass: start to compute the first call's output."""
        mx.async_eval(self._first)  # type: ignore[no-untyped-call]
        self._first = []

    def finish(self, incoming: list[mx.array], rows: int, length: int) -> None:
        """Next time the model is called, run no layer: the last one has handed on `incoming`."""
        count = self._cargo.calls
        self.run(range(count, count), incoming, rows, length)

    @contextmanager
    def recording(self, recorder: Recorder) -> Iterator[None]:
        """Let `recorder` run every layer."""
        self._recorder = recorder
        try:
            yield
        finally:
            self._recorder = None

    def visit(self, layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A slot was called."""
        if self._recorder:
            return self._recorder(layer, self._layers[layer], args, kwargs)
        call = self._next
        self._next += 1
        if self._here.start == 0 and (given := self._cargo.given_first(call)):
            self._hold(given, dict(arrays_in((args, kwargs))))
        if call not in self._here:
            return mapped(self._cargo.returned(call), lambda path, leaf: self._elsewhere(call, path, leaf))
        if self._here.start > 0 and (taken := self._cargo.given(call)):
            args, kwargs = mapped((args, kwargs), lambda path, leaf: self._held[taken[path]] if path in taken else leaf)
        output = self._layers[layer](*args, **kwargs)
        if self.first_apart and call == 0:
            self._first = [array for _, array in arrays_in(output)]
        if self.at_once and call != self._here.stop - 1:  # of the last call's not all may be wanted
            mx.async_eval([array for _, array in arrays_in(output)])  # type: ignore[no-untyped-call]
        if leaving := self._cargo.leaving(call):
            self._hold(leaving, dict(arrays_in(output)))
        return output

    def _hold(self, sources: list[Source], arrays: dict[str, mx.array]) -> None:
        """Copies, which cost nothing: some models write into what a layer returned."""
        self._held |= {source: copy.copy(arrays[source.path]) for source in sources}

    def _elsewhere(self, call: int, path: str, leaf: Any) -> Any:
        """What stands for a leaf of what another rank's call returned: a `Form` stands for an array."""
        if not isinstance(leaf, Form):
            return leaf
        if (held := self._held.get(Source(call, path))) is not None:
            return copy.copy(held)
        if leaf not in self._blanks:
            self._blanks[leaf] = mx.zeros(leaf.shape(*self._shape), leaf.dtype)
        return self._blanks[leaf]


class Slot:
    """Stands for one layer, and answers for its attributes and its class: models ask layers what kind they are."""

    def __init__(self, walk: Walk, index: int, layer: nn.Module) -> None:
        self._walk = walk
        self._index = index
        self._layer = layer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._walk.visit(self._index, args, kwargs)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._layer)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __contains__(self, name: str) -> bool:
        return name in self._layer


def install_slots(model: nn.Module) -> Walk:
    """Put every layer of `model` in a slot. From then on the model runs by the returned walk alone."""
    lists = [layers for _, layers in find_layers(model)]
    walk = Walk([layer for layers in lists for layer in layers])
    index = 0
    for layers in lists:
        for place, layer in enumerate(layers):
            layers[place] = Slot(walk, index, layer)
            index += 1
    return walk


def find_layers(model: nn.Module) -> list[tuple[str, list[Any]]]:
    """The lists of modules that mlx-lm calls the model's layers, with their paths in its tree, in its order.

    Where it names none: the longest list, the outermost where several are as long. Raises UserError if there is none.
    """
    found = list(_module_lists("", model))
    if not found:
        raise UserError("this model has no list of layers, so mlxserve cannot serve it.")
    order = {id(layer): index for index, layer in enumerate(_named_layers(model))}
    named = [each for each in found if all(id(layer) in order for layer in each[1])]
    if named:
        return sorted(named, key=lambda each: order[id(each[1][0])])
    return [max(found, key=lambda each: (len(each[1]), -each[0].count(".")))]


def _named_layers(model: nn.Module) -> list[Any]:
    layers = getattr(model, "layers", [])
    return layers if isinstance(layers, list) else []


def _module_lists(path: str, value: Any) -> Iterator[tuple[str, list[Any]]]:
    if isinstance(value, list):
        if value and all(isinstance(item, nn.Module) for item in value):
            yield path, value
        children: Any = enumerate(value)
    elif isinstance(value, dict):  # an nn.Module is one
        children = value.items()
    else:
        return
    for name, child in children:
        yield from _module_lists(f"{path}.{name}" if path else str(name), child)
