"""From a model's name to this rank's stage: trace, split, fetch and read what this rank's layers need, no more."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlxserve.config import Capacity, Settings
from mlxserve.errors import UserError
from mlxserve.models.adapter import Adapter
from mlxserve.models.progress import Progress
from mlxserve.models.source import ModelSource
from mlxserve.pipeline.balance import Weights, expected_seconds
from mlxserve.pipeline.footprint import Footprint
from mlxserve.pipeline.form import Form
from mlxserve.pipeline.free_memory import room_bytes, within
from mlxserve.pipeline.model_trace import Trace, trace_model
from mlxserve.pipeline.plan import Item, Open
from mlxserve.pipeline.probe import Probe
from mlxserve.pipeline.room import require_room
from mlxserve.pipeline.slots import Walk, find_layers, install_slots
from mlxserve.pipeline.split import check_splittable, layer_bytes, plan_split, tail_bytes
from mlxserve.pipeline.stage import Stage
from mlxserve.pipeline.tensor_shares import embeddings, shard_model

_SAMPLES = 64


@dataclass(frozen=True)
class LoadedModel:
    """This rank's part of the model, its weights in memory."""

    stage: Stage
    trace: Trace
    split: list[range]
    """The calls of each rank."""
    batchable: bool
    """Whether prompts of different lengths can share a batch."""
    footprint: Footprint
    """What sequences cost this rank."""
    expected_seconds: list[float]
    """What a token takes on each rank, by the bytes that it reads and the speed that was measured; 0: not known."""
    weights: str
    """A digest of samples of this rank's weights, where `--prefix-cache-dir` asks for it."""


def load_source(
    source: ModelSource,
    settings: Settings,
    report: Callable[[str], None],
    adapter: Adapter | None = None,
    ranks: Sequence[Capacity] = (),
    sharing: mx.distributed.Group | None = None,
) -> LoadedModel:
    """Load from files, fetching first those that hold this rank's layers. Raises UserError.

    `ranks`: what each has; not told, they are equal. `sharing`: the group whose ranks each take a share of every layer;
    without it each takes whole layers.
    """

    def parts_of_files() -> _Parts:
        model = source.load(settings.dtype)
        if adapter:
            adapter.attach(model, settings.dtype)
        return _Parts(model, settings, ranks, sharing)

    parts = parts_of_files()
    parts.require_room()
    if source.fetch(parts.wants_own, report):
        parts = parts_of_files()
        if not sharing and parts.reads_others_weights():
            source.fetch(lambda name: True, report)
            parts = parts_of_files()
    source.close()
    return parts.materialize(Progress(report))


def load_model(
    model: nn.Module,
    settings: Settings,
    ranks: Sequence[Capacity] = (),
    sharing: mx.distributed.Group | None = None,
) -> LoadedModel:
    """Take a model that is built already, all its weights at hand; the others as above. Raises UserError."""
    parts = _Parts(model, settings, ranks, sharing)
    parts.require_room()
    return parts.materialize(Progress(lambda line: None))


class _Parts:
    """A lazy model, cut: what is this rank's and what is not."""

    def __init__(
        self, model: nn.Module, settings: Settings, ranks: Sequence[Capacity], sharing: mx.distributed.Group | None
    ) -> None:
        place = settings.place
        self._shares = sharing is not None
        if sharing is not None:
            shard_model(model, sharing)
        self.rank = place.rank
        self._memory_limit = settings.own_memory_limit
        self._kv_bits = settings.kv_bits
        self._stores = bool(settings.prefix_cache_dir)
        self._model = model
        lists = [(path, len(layers)) for path, layers in find_layers(model)]
        paths = tuple(f"{path}." for path, _ in lists)
        starts = accumulate((count for _, count in lists), initial=0)
        self._first_of_list = {path.rpartition(".")[2]: start for (path, _), start in zip(lists, starts, strict=False)}
        self._shared = [(name, array) for name, array in _parameters(model) if not name.startswith(paths)]
        sizes, tail = layer_bytes(model), tail_bytes(model)
        self._walk: Walk = install_slots(model)
        self._trace = trace_model(model, self._walk)
        parts = 1 if self._shares else place.world_size
        if parts > 1:
            check_splittable(self._trace, parts)
        self._layer_of_call = self._trace.layer_of_call or list(range(len(sizes)))
        weights = Weights(
            sizes=[sizes[layer] for layer in self._layer_of_call],
            reads=[sizes[layer] - self._trace.unread[layer] for layer in self._layer_of_call],
            shared=_bytes([array for _, array in self._shared]),
            tail=tail,
        )
        ranks = [] if self._shares else ranks
        self._split = plan_split(weights, parts, settings.split, self._trace.cuts, ranks) * (place.world_size // parts)
        self._seconds = expected_seconds(weights, self._split, ranks)
        self._stage = Stage(model, self._walk, self._trace, self._split[self.rank])

    def wants_own(self, name: str) -> bool:
        """Whether this rank needs the tensor of this name: of its own layers; on rank 0 also of no layer."""
        if self._shares:
            return True
        lists = "|".join(map(re.escape, self._first_of_list))
        found = re.search(rf"(?:^|\.)({lists})\.(\d+)\.", name)
        if found is None:
            return self.rank == 0
        return self._first_of_list[found[1]] + int(found[2]) in self._own

    def reads_others_weights(self) -> bool:
        """Whether this rank's layers depend on weights that are not its own, shown by poisoning those with NaN."""
        for index, layer in enumerate(self._walk.layers):
            if index not in self._own:
                layer.load_weights(_poisoned(_parameters(layer)), strict=False)
        if self.rank > 0:
            self._model.load_weights(_poisoned(self._shared), strict=False)
        incoming = [mx.zeros(form.shape(1, 1), form.dtype) for form in self._incoming]
        self._stage.apply(Open(0, 1))
        outgoing = self._stage.forward(Item(0, [[0]], [], "last"), incoming)
        depends = any(mx.isnan(array).any().item() for array in outgoing)
        self._stage.reset()
        self._model.load_weights(self._shared, strict=False)
        return depends

    @property
    def _own(self) -> list[int]:
        """The layers of this rank."""
        return sorted({self._layer_of_call[call] for call in self._split[self.rank]})

    @property
    def _incoming(self) -> list[Form]:
        """What comes from the rank before."""
        return self._trace.crossing(self._split[self.rank].start)

    def materialize(self, progress: Progress) -> LoadedModel:
        """Read this rank's weights into memory; the others stay where they are."""
        own = self._own
        layers = self._walk.layers
        try:
            for number, index in enumerate(own, 1):
                mx.eval(layers[index].parameters())
                progress.say("reading layers", number, len(own))
            mx.eval([array for _, array in self._own_shared()])
        except RuntimeError as error:
            raise UserError(f"the model's weights cannot be read: {error}") from error
        mx.clear_cache()
        return self._probed(own)

    def _own_shared(self) -> list[tuple[str, Any]]:
        """Of the weights of no layer those that this rank needs: all of them, or what it embeds with, or none."""
        if self.rank == 0:
            return self._shared
        return embeddings(self._model) if self._shares else []

    def require_room(self) -> None:
        """Raise UserError where this rank's weights do not fit into its memory; to be asked before they are there."""
        own = self._own
        of_layers = [[array for _, array in _parameters(layer)] for layer in self._walk.layers]
        shared = [array for _, array in self._shared]
        mine = [array for index in own for array in of_layers[index]] + [array for _, array in self._own_shared()]
        whole = [array for arrays in of_layers for array in arrays] + shared
        is_quantized = any(array.dtype == mx.uint32 for array in mine)
        usable = within(self._memory_limit, room_bytes())
        bits = 0.0 if is_quantized else 8 * _bytes(mine) / sum(array.size for array in mine)
        require_room(self.rank, len(own), _bytes(mine), _bytes(whole), bits, usable)

    def _probed(self, own: list[int]) -> LoadedModel:
        probe = Probe(self._stage, self._incoming)
        if self._kv_bits:
            probe.quantize(self._kv_bits)
        return LoadedModel(
            self._stage,
            self._trace,
            self._split,
            batchable=self._stage.batchable and probe.pads(),
            footprint=probe.footprint(),
            expected_seconds=self._seconds,
            weights=self._digest(own) if self._stores else "",
        )

    def _digest(self, own: list[int]) -> str:
        digest = hashlib.sha256()
        layers = [(f"{index}.{name}", array) for index in own for name, array in _parameters(self._walk.layers[index])]
        for name, array in [*layers, *self._own_shared()]:
            digest.update(f"{name} {array.shape} {array.dtype}".encode() + _sampled(array))
        return digest.hexdigest()


def _poisoned(parameters: list[tuple[str, Any]]) -> list[tuple[str, mx.array]]:
    floats = [(name, array) for name, array in parameters if mx.issubdtype(array.dtype, mx.floating)]
    return [(name, mx.full(array.shape, float("nan"), array.dtype)) for name, array in floats]


def _bytes(arrays: list[mx.array]) -> int:
    return sum(array.nbytes for array in arrays)


def _sampled(array: mx.array) -> bytes:
    """A few of its elements, as bytes; evaluated."""
    flat = array.reshape(-1)
    return bytes(memoryview(flat[:: max(1, flat.size // _SAMPLES)].astype(mx.float32)))  # type: ignore[arg-type]


def _parameters(model: nn.Module) -> list[tuple[str, Any]]:
    return list(tree_flatten(model.parameters()))
