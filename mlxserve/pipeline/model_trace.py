"""What a model does with its layers: found by running it without computing anything, never by its name.

A model's layers are *called* one after the other; nearly always a call is a layer, but a model that loops over its
layers twice is cut in the same way. Two passes, of different shapes, show how the shape of what travels follows from
an item's. In the second, what each call returned is replaced by a mark, so that MLX's graph of what a later call is
given tells where that comes from.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import CacheList, make_prompt_cache

from mlxserve.errors import UserError
from mlxserve.pipeline.cargo import Cargo, Source
from mlxserve.pipeline.experts import unread_bytes, watching_experts
from mlxserve.pipeline.form import LARGE, SMALL, Form, form_of
from mlxserve.pipeline.origins import origins_of
from mlxserve.pipeline.slots import Walk
from mlxserve.pipeline.tree import arrays_in, mapped

RAISED_BY_MODELS = (TypeError, ValueError, AttributeError, IndexError, KeyError, RuntimeError, NotImplementedError)

_TOKENS = "tokens"
_SHARED = "its layers share a KV cache"
_GROWING = "what its layers share grows with the context"
_CHANGED = "its layers leave arrays for later ones without returning them"
_MIXED = "what its layers hand on is mixed with the tokens again"


@dataclass(frozen=True)
class Trace:
    """What tracing showed of a model."""

    model_type: str
    layer_of_call: list[int]
    unread: list[int]
    """Bytes of each layer's weights that a token does not read."""
    caches_of_call: list[frozenset[int]]
    """Indices into the model's list of caches that each call was given."""
    used_caches: frozenset[int]
    """Those that anything was put into."""
    cargo: Cargo
    forms: dict[Source, Form]
    """Of all that may travel."""
    obstacles: dict[int, str]
    """Why the calls cannot be cut before this one; for the one after the last: not at all."""

    @property
    def obstacle(self) -> str:
        """Why the calls cannot be spread over ranks at all; empty if they can."""
        return self.obstacles.get(len(self.layer_of_call), "")

    @property
    def cuts(self) -> list[int]:
        """The calls before which they can be cut."""
        return [call for call in range(1, len(self.layer_of_call)) if call not in self.obstacles]

    def crossing(self, cut: int) -> list[Form]:
        """The forms of what travels across `cut`."""
        return [self.forms[source] for source in self.cargo.across(cut)]


def trace_model(model: nn.Module, walk: Walk) -> Trace:
    """Run `model`, whose layers are in `walk`'s slots, on a few tokens without computing them.

    From then on `walk` hands on what has to travel. Raises UserError naming the model type if it does not even run.
    """
    name = model_type_of(model)
    try:
        with watching_experts() as asked:
            small = _Pass(model, walk, SMALL)
        large = _Pass(model, walk, LARGE)
    except RAISED_BY_MODELS as error:
        raise UserError(f"model type {name!r} cannot be served here: {error}") from error
    unread = [unread_bytes(layer, asked) for layer in walk.layers]
    return _Findings(small, large, len(walk.layers)).trace(name, walk, unread)


def model_type_of(model: nn.Module) -> str:
    """The model type's name, as in its config."""
    return str(getattr(model, "model_type", None) or type(model).__module__.rpartition(".")[2])


@dataclass
class _Call:
    layer: int
    given: dict[str, mx.array]
    caches: frozenset[int]
    output: Any
    returned: dict[str, mx.array]
    """Marks, in the place of the arrays in the output."""
    cached: dict[str, mx.array]
    """Marks, in the place of the arrays in the caches."""
    changes_given: bool
    """It put other arrays into what it was given, and did not return them."""


@dataclass
class _Pass:
    """The calls of a pass of so many rows and tokens a row, after another if they are several."""

    model: nn.Module
    walk: Walk
    shape: tuple[int, int]
    calls: list[_Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        rows, length = self.shape
        self._caches = make_prompt_cache(self.model)
        if length > 1:
            with self.walk.recording(lambda index, layer, args, kwargs: layer(*args, **kwargs)):
                self.model(mx.zeros((rows, length + 1), mx.int32), cache=self._caches)
        self.tokens = mx.zeros(self.shape, mx.int32)
        with self.walk.recording(self._record):
            self.logits = self.model(self.tokens, cache=self._caches)
        self.used_caches = frozenset(
            place
            for place, cache in enumerate(self._caches)
            if any(dict(arrays_in(vars(part))) for part in _parts(cache))
        )

    def _record(self, index: int, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = dict(arrays_in((args, kwargs)))
        output = layer(*args, **kwargs)
        known = {id(array) for array in [*given.values(), *dict(arrays_in(output)).values()]}
        changes = any(id(array) not in known for _, array in arrays_in((args, kwargs)))
        leaves: list[Any] = []
        mapped((args, kwargs), lambda path, leaf: leaves.append(leaf))
        passed = {id(leaf) for leaf in leaves}
        caches = frozenset(
            place
            for place, cache in enumerate(self._caches)
            if not passed.isdisjoint({id(cache), *map(id, _parts(cache))})
        )
        marked = mapped(output, lambda path, leaf: _mark(leaf))
        cached: dict[str, mx.array] = {}
        for place in sorted(caches):
            for part, cache in enumerate(_parts(self._caches[place])):
                vars(cache).update(mapped(vars(cache), lambda path, leaf: _mark(leaf)))
                cached |= {f"{place}.{part}.{path}": array for path, array in arrays_in(vars(cache))}
        call = _Call(index, given, caches, output, dict(arrays_in(marked)), cached, changes)
        self.calls.append(call)
        # Some models write into what a layer returned.
        return mapped(marked, lambda path, leaf: copy.copy(leaf) if isinstance(leaf, mx.array) else leaf)


class _Findings:
    """What two passes show together."""

    def __init__(self, small: _Pass, large: _Pass, layer_count: int) -> None:
        self._small = small
        self._large = large
        self._count = len(large.calls)
        self._forms: dict[Source, Form] = {}
        self._uses: dict[Source, int] = {}
        self._given: dict[int, dict[str, Source]] = {}
        self._obstacles: dict[int, str] = {}
        if {call.layer for call in large.calls} != set(range(layer_count)) or len(small.calls) != self._count:
            self._forbid(range(self._count + 1), "it does not call its layers one after the other")
        else:
            self._follow()

    def trace(self, name: str, walk: Walk, unread: list[int]) -> Trace:
        """All that is known; `walk` is told what to hand on, if that can be told."""
        calls = self._large.calls
        cargo = Cargo.unknown()
        if self._count not in self._obstacles:
            cargo = Cargo([self._outlined(call) for call in range(self._count)], self._uses, self._given)
            walk.carry(cargo)
        layers = [call.layer for call in calls]
        caches = [call.caches for call in calls]
        return Trace(name, layers, unread, caches, self._large.used_caches, cargo, self._forms, self._obstacles)

    def _follow(self) -> None:
        """Look where everything comes from that the calls and the tail are given."""
        given = {
            f"given_{call}_{path}": (call, path, array)
            for call, each in enumerate(self._large.calls)
            for path, array in each.given.items()
            if call > 0
        }
        given["tail"] = (self._count, "", self._large.logits)
        origins = origins_of({name: array for name, (_, _, array) in given.items()}, self._marks())
        for name, (call, path, array) in given.items():
            self._note(call, path, array, origins[name])
        for cache in frozenset[int]().union(*(call.caches for call in self._large.calls)):
            sharing = [number for number, call in enumerate(self._large.calls) if cache in call.caches]
            self._forbid(range(sharing[0] + 1, sharing[-1] + 1), _SHARED)
        for number, each in enumerate(self._large.calls):
            if each.changes_given:
                self._forbid(range(number + 1, self._count), _CHANGED)
        for source, last in self._uses.items():
            if not self._forms[source].known:
                self._forbid(range(1 if source.is_given else source.call + 1, last + 1), _GROWING)

    def _marks(self) -> dict[str, mx.array]:
        marks = {_TOKENS: self._large.tokens}
        for number, call in enumerate(self._large.calls):
            marks |= {f"returned_{number}_{path}": array for path, array in call.returned.items()}
            marks |= {f"cached_{number}_{path}": array for path, array in call.cached.items()}
        return marks

    def _note(self, call: int, path: str, array: mx.array, origins: set[str]) -> None:
        """An argument of `call`, or the tail's output, is computed from `origins`."""
        returned = []
        for origin in sorted(origins - {_TOKENS}):
            kind, number, place = origin.split("_", 2)
            if kind == "cached":
                self._forbid(range(int(number) + 1, call + 1), _SHARED)
            else:
                returned.append(Source(int(number), place))
        for source in returned:
            self._forms[source] = self._form_of_returned(source.call, source.path)
            self._uses[source] = max(call, self._uses.get(source, 0))
        if _TOKENS in origins and returned:
            self._forbid(range(1, call + 1), _MIXED)
        elif _TOKENS in origins:
            self._note_given(call, path, array)

    def _note_given(self, call: int, path: str, array: mx.array) -> None:
        """`call` is given `array`, made from the tokens, at `path`, and perhaps others before it."""
        source = self._first_given(call, path, array)
        self._given.setdefault(call, {})[path] = source
        self._forms[source] = form_of(self._small.calls[source.call].given[source.path], array)
        self._uses[source] = max(call, self._uses.get(source, 0))

    def _first_given(self, call: int, path: str, array: mx.array) -> Source:
        for number, earlier in enumerate(self._large.calls[:call]):
            for place, other in earlier.given.items():
                if other is array and place in self._small.calls[number].given:
                    return Source(number, place, is_given=True)
        return Source(call, path, is_given=True)

    def _form_of_returned(self, call: int, path: str) -> Form:
        small, large = (dict(arrays_in(each.calls[call].output)) for each in (self._small, self._large))
        return form_of(small[path], large[path]) if path in small else Form(("unknown",), large[path].dtype)

    def _outlined(self, call: int) -> Any:
        """What `call` returned, with a form for each array."""

        def outline(path: str, leaf: Any) -> Any:
            return self._form_of_returned(call, path) if isinstance(leaf, mx.array) else leaf

        return mapped(self._large.calls[call].output, outline)

    def _forbid(self, cuts: range, reason: str) -> None:
        for cut in cuts:
            self._obstacles.setdefault(cut, reason)


def _mark(leaf: Any) -> Any:
    return mx.zeros(leaf.shape, leaf.dtype) if isinstance(leaf, mx.array) else leaf


def _parts(cache: Any) -> Iterator[Any]:
    if isinstance(cache, CacheList):
        for part in cache.caches:
            yield from _parts(part)
    else:
        yield cache
