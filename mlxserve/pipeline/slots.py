"""Slots: what stands in the model's list of layers in the layers' place.

The model's own `__call__` runs unchanged. Each time it calls a slot, the walk decides whether the layer runs, its input
passes through, or a hidden state that came from another rank is taken in. What nobody reads is never computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlxserve.errors import UserError

Key = int | str
"""Which argument of a layer is the hidden state: a position or a name."""


@dataclass
class Call:
    """One call of a layer, as the trace saw it."""

    layer: int
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    hidden: Key
    output: Any = None
    carries_state: bool = False
    """An argument besides the hidden state came out of an earlier layer."""

    def leaves(self) -> Iterator[Any]:
        """Every argument, and what lists, tuples and dicts among them hold."""
        yield from _leaves((self.args, self.kwargs))


class Walk:
    """One pass through the model's layers: which calls run here, what is taken in, what comes out."""

    def __init__(self, layers: list[nn.Module]) -> None:
        self._layers = layers
        self._calls_here = range(0)
        self._incoming: mx.array | None = None
        self._next = 0
        self._hidden: list[Key] = []
        self._trace: list[Call] | None = None
        self.at_once = False
        """Start to compute each layer as soon as its graph is built, while the next one's is being built."""
        self.outgoing: mx.array | None = None
        """What the last call that ran here returned."""

    @property
    def layer_count(self) -> int:
        """How many layers the model has."""
        return len(self._layers)

    @property
    def layers(self) -> list[nn.Module]:
        """The layers themselves, in the order of the model's list."""
        return self._layers

    def run(self, calls: range, incoming: mx.array | None) -> None:
        """Next time the model is called, run `calls`; what the call before them returns is `incoming`, where given."""
        self._calls_here, self._incoming = calls, incoming
        self._next = 0
        self.outgoing = None

    def finish(self, incoming: mx.array) -> None:
        """Next time the model is called, run no layer: what the last one returns is `incoming`."""
        count = len(self._hidden)
        self.run(range(count, count), incoming)

    @contextmanager
    def recording(self) -> Iterator[list[Call]]:
        """Run every layer and write down each call, for the trace."""
        calls: list[Call] = []
        self._trace = calls
        try:
            yield calls
        finally:
            self._trace = None
        self._hidden = [call.hidden for call in calls]

    def visit(self, layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A slot was called."""
        if self._trace is not None:
            return self._record(self._trace, layer, args, kwargs)
        call = self._next
        self._next += 1
        if call in self._calls_here:
            self.outgoing = self._layers[layer](*args, **kwargs)
            if self.at_once and call != self._calls_here.stop - 1:  # of the last call's not all may be wanted
                mx.async_eval(self.outgoing)  # type: ignore[no-untyped-call]
            return self.outgoing
        if call == self._calls_here.start - 1 and self._incoming is not None:
            return self._incoming
        key = self._hidden[call]
        return args[key] if isinstance(key, int) else kwargs[key]

    def _record(self, calls: list[Call], layer: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        handed_on = calls[-1].output if calls else None
        call = Call(layer, args, kwargs, _hidden_key(args, kwargs, handed_on))
        earlier = {id(leaf) for before in calls for leaf in _leaves(before.output) if isinstance(leaf, mx.array)}
        given = args[call.hidden] if isinstance(call.hidden, int) else kwargs[call.hidden]
        call.carries_state = any(id(leaf) in earlier and leaf is not given for leaf in call.leaves())
        calls.append(call)
        call.output = self._layers[layer](*args, **kwargs)
        return call.output


class Slot:
    """Stands for one layer, and answers for its attributes: models ask layers what kind they are."""

    def __init__(self, walk: Walk, index: int, layer: nn.Module) -> None:
        self._walk = walk
        self._index = index
        self._layer = layer

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._walk.visit(self._index, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)

    def __contains__(self, name: str) -> bool:
        return name in self._layer


def install_slots(model: nn.Module) -> Walk:
    """Put every layer of `model` in a slot. From then on the model runs by the returned walk alone."""
    _, layers = find_layers(model)
    originals = list(layers)
    walk = Walk(originals)
    layers[:] = [Slot(walk, index, layer) for index, layer in enumerate(originals)]
    return walk


def find_layers(model: nn.Module) -> tuple[str, list[Any]]:
    """The longest list of modules in the model's tree, the outermost where several are as long, and its path."""
    found = list(_module_lists("", model))
    if not found:
        raise UserError("this model has no list of layers, so mlxserve cannot serve it.")
    return max(found, key=lambda item: (len(item[1]), -item[0].count(".")))


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


def _hidden_key(args: tuple[Any, ...], kwargs: dict[str, Any], handed_on: Any) -> Key:
    """Where the hidden state is: what the last layer returned, else the first array."""
    named: list[tuple[Key, Any]] = [*enumerate(args), *kwargs.items()]
    for key, value in named:
        if handed_on is not None and value is handed_on:
            return key
    for key, value in named:
        if isinstance(value, mx.array):
            return key
    return 0


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, dict) and not isinstance(value, nn.Module):
        for item in value.values():
            yield from _leaves(item)
    else:
        yield value
