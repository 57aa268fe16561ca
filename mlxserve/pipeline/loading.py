"""From a model's name to this rank's stage: trace, split, fetch and read what this rank's layers need, no more."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlxserve.config import Settings
from mlxserve.errors import UserError
from mlxserve.models.progress import Progress
from mlxserve.models.source import ModelSource
from mlxserve.pipeline.footprint import Footprint
from mlxserve.pipeline.free_memory import room_bytes
from mlxserve.pipeline.plan import Item, Open
from mlxserve.pipeline.probe import Probe
from mlxserve.pipeline.room import require_room
from mlxserve.pipeline.slots import Walk, find_layers, install_slots
from mlxserve.pipeline.split import Trace, check_splittable, layer_bytes, plan_split, trace_model
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
    weights: str
    """A digest of samples of this rank's weights, where `--prefix-cache-dir` asks for it."""


def load_source(
    source: ModelSource,
    settings: Settings,
    report: Callable[[str], None],
    sharing: mx.distributed.Group | None = None,
) -> LoadedModel:
    """Load from files, fetching first those that hold this rank's layers. Raises UserError.

    `sharing`: the group whose ranks each take a share of every layer; without it each takes whole layers.
    """
    parts = _Parts(source.load(settings.dtype), settings, sharing)
    if source.fetch(parts.wants_own, report):
        parts = _Parts(source.load(settings.dtype), settings, sharing)
        if parts.rank > 0 and not sharing and parts.reads_shared_weights():
            source.fetch(lambda name: True, report)
        parts = _Parts(source.load(settings.dtype), settings, sharing)
    return parts.materialize(Progress(report))


def load_model(model: nn.Module, settings: Settings, sharing: mx.distributed.Group | None = None) -> LoadedModel:
    """Take a model that is built already, all its weights at hand; `sharing` as above. Raises UserError."""
    return _Parts(model, settings, sharing).materialize(Progress(lambda line: None))


class _Parts:
    """A lazy model, cut: what is this rank's and what is not."""

    def __init__(self, model: nn.Module, settings: Settings, sharing: mx.distributed.Group | None = None) -> None:
        place = settings.place
        self._shares = sharing is not None
        if sharing is not None:
            shard_model(model, sharing)
        self.rank = place.rank
        self._kv_bits = settings.kv_bits
        self._stores = bool(settings.prefix_cache_dir)
        self._model = model
        path, _ = find_layers(model)
        self._list_name = path.rpartition(".")[2]
        self._shared = [(name, array) for name, array in _parameters(model) if not name.startswith(f"{path}.")]
        sizes = layer_bytes(model)
        self._walk: Walk = install_slots(model)
        self._trace = trace_model(model, self._walk)
        parts = 1 if self._shares else place.world_size
        if parts > 1 and self._trace.obstacle:
            check_splittable(self._trace, [])
        per_call = [sizes[layer] for layer in self._trace.layer_of_call] or sizes
        self._split = plan_split(per_call, parts, settings.split) * (place.world_size // parts)
        if parts > 1:
            check_splittable(self._trace, self._split)
        self._stage = Stage(model, self._walk, self._trace, self._split[self.rank])

    def wants_own(self, name: str) -> bool:
        """Whether this rank needs the tensor of this name: of its own layers; on rank 0 also of no layer."""
        if self._shares:
            return True
        found = re.search(rf"(?:^|\.){re.escape(self._list_name)}\.(\d+)\.", name)
        if found is None:
            return self.rank == 0
        own = {self._trace.layer_of_call[call] for call in self._split[self.rank]}
        return int(found[1]) in own

    def reads_shared_weights(self) -> bool:
        """Whether a worker's layers depend on weights outside the layers, shown by poisoning those with NaN."""
        poisoned = [
            (name, mx.full(array.shape, float("nan"), array.dtype))
            for name, array in self._shared
            if mx.issubdtype(array.dtype, mx.floating)
        ]
        self._model.load_weights(poisoned, strict=False)
        before = self._trace.boundaries[self._split[self.rank].start - 1]
        self._stage.apply(Open(0, 1))
        hidden = self._stage.forward(Item(0, [[0]], [], "last"), mx.zeros((1, 1, *before.trailing), before.dtype))
        return bool(mx.isnan(hidden).any().item())

    def materialize(self, progress: Progress) -> LoadedModel:
        """Read this rank's weights into memory; the others stay where they are."""
        own = sorted({self._trace.layer_of_call[call] for call in self._split[self.rank]})
        layers = self._walk.layers
        self._require_room(own)
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

    def _require_room(self, own: list[int]) -> None:
        of_layers = [[array for _, array in _parameters(layer)] for layer in self._walk.layers]
        shared = [array for _, array in self._shared]
        mine = [array for index in own for array in of_layers[index]] + [array for _, array in self._own_shared()]
        whole = [array for arrays in of_layers for array in arrays] + shared
        is_quantized = any(array.dtype == mx.uint32 for array in mine)
        bits = 0.0 if is_quantized else 8 * _bytes(mine) / sum(array.size for array in mine)
        require_room(self.rank, len(own), _bytes(mine), _bytes(whole), bits, room_bytes())

    def _probed(self, own: list[int]) -> LoadedModel:
        start = self._split[self.rank].start
        probe = Probe(self._stage, self._trace.boundaries[start - 1] if start > 0 else None)
        if self._kv_bits:
            probe.quantize(self._kv_bits)
        return LoadedModel(
            self._stage,
            self._trace,
            self._split,
            batchable=self._stage.batchable and probe.pads(),
            footprint=probe.footprint(),
            weights=self._digest(own) if self._stores else "",
        )

    def _digest(self, own: list[int]) -> str:
        digest = hashlib.sha256()
        layers = [(f"{index}.{name}", array) for index in own for name, array in _parameters(self._walk.layers[index])]
        for name, array in [*layers, *self._own_shared()]:
            digest.update(f"{name} {array.shape} {array.dtype}".encode() + _sampled(array))
        return digest.hexdigest()


def _bytes(arrays: list[mx.array]) -> int:
    return sum(array.nbytes for array in arrays)


def _sampled(array: mx.array) -> bytes:
    """A few of its elements, as bytes; evaluated."""
    flat = array.reshape(-1)
    return bytes(memoryview(flat[:: max(1, flat.size // _SAMPLES)].astype(mx.float32)))  # type: ignore[arg-type]


def _parameters(model: nn.Module) -> list[tuple[str, Any]]:
    return list(tree_flatten(model.parameters()))
