"""This rank's part of the model that the settings name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlxserve.config import Capacity, Parallel, Settings
from mlxserve.engine.check import random_model
from mlxserve.models.adapter import Adapter
from mlxserve.models.folder import ModelSource
from mlxserve.models.progress import Report
from mlxserve.models.source import find_model
from mlxserve.pipeline.free_memory import free_bytes, usable_bytes, within
from mlxserve.pipeline.link import Loaded
from mlxserve.pipeline.loading import LoadedModel, load_model, load_source
from mlxserve.pipeline.segment_bytes import FORMAT
from mlxserve.pipeline.segment_files import SegmentFiles

_NO_ADAPTER = "none"


@dataclass(frozen=True)
class Part:
    """This rank's layers in memory, and the config of the whole model."""

    loaded: LoadedModel
    config: dict[str, Any]
    folder: Path
    """Where the tokenizer is."""
    free_bytes: int
    """Memory for caches that is free after loading."""
    adapter: str
    """The digest of what was added to the model; "none": nothing was."""
    files: SegmentFiles | None
    """Where stored prefixes outlive this process."""
    parallel: Parallel

    @property
    def traits(self) -> dict[str, str]:
        """By name, what is equal on all ranks that serve the same model, cut and computed alike."""
        text = _text(self.config)
        trace, split = self.loaded.trace, self.loaded.split
        crossing = {str(form) for calls in split for form in trace.crossing(calls.stop)}
        return {
            "the parallel mode": self.parallel,
            "a config with the digest": hashlib.sha256(text.encode()).hexdigest()[:12],
            "an adapter with the digest": self.adapter,
            "layers split into": " + ".join(str(len(calls)) for calls in split),
            "hidden states of": ", ".join(sorted(crossing)),
        }

    @property
    def said(self) -> Loaded:
        """What rank 0 is to know of it."""
        stage = self.loaded.stage
        return Loaded(
            batchable=self.loaded.batchable,
            cuttable=stage.cuttable,
            footprint=self.loaded.footprint,
            free_bytes=self.free_bytes,
            stored=stage.segments.sizes,
            stored_lengths=stage.segments.lengths,
            traits=self.traits,
        )


def load_part(
    settings: Settings,
    report: Report,
    found: Callable[[ModelSource], None] = lambda source: None,
    find: Callable[[str, Report], ModelSource] = find_model,
    ranks: Sequence[Capacity] = (),
    group: mx.distributed.Group | None = None,
) -> Part:
    """Find, fetch and load; `found` is told where the model comes from as soon as it is known. Raises UserError.

    `ranks`: what each has, by which the layers are split. `group`: the ranks among which each layer is shared out
    instead, if the settings say so.
    """
    sharing = group if settings.parallel == "tensor" else None
    usable = usable_bytes()
    if not settings.model:
        model, config = random_model(settings.place.world_size)
        return _part(load_model(model, settings, ranks, sharing), config, Path(), settings, usable)
    adapter = Adapter.read(Path(settings.adapter).expanduser()) if settings.adapter else None
    source = find(settings.model, report)
    found(source)
    loaded = load_source(source, settings, report, adapter, ranks, sharing)
    return _part(loaded, source.config, source.folder, settings, usable, adapter.digest if adapter else _NO_ADAPTER)


def whole_model(settings: Settings, report: Report) -> nn.Module:
    """The model that the settings name, uncut; its weights are not read. Raises UserError."""
    if not settings.model:
        return random_model(settings.place.world_size)[0]
    return find_model(settings.model, report).load(settings.dtype)


def _part(
    loaded: LoadedModel,
    config: dict[str, Any],
    folder: Path,
    settings: Settings,
    usable: int,
    adapter: str = _NO_ADAPTER,
) -> Part:
    """`usable`: bytes of memory that were so before loading."""
    free = within(settings.own_memory_limit, free_bytes(settings.place, usable))
    files = None
    if settings.prefix_cache_dir and settings.prefix_cache_bytes != 0:
        name = _identity(loaded, config, adapter, settings)
        files = SegmentFiles(Path(settings.prefix_cache_dir).expanduser() / name)
        bound = settings.prefix_cache_bytes if settings.prefix_cache_bytes > 0 else free // 2
        loaded.stage.segments.resume(files.read(bound), files)
    return Part(loaded, config, folder, free, adapter, files, settings.parallel)


def _identity(loaded: LoadedModel, config: dict[str, Any], adapter: str, settings: Settings) -> str:
    """Another one for everything that makes stored prefixes unfit: model, split, kind of cache, mlxserve's format."""
    rank = settings.place.rank
    described = [FORMAT, _text(config), adapter, loaded.weights, str(loaded.split), str(rank), str(settings.kv_bits)]
    name = hashlib.sha256("\n".join(described).encode()).hexdigest()[:24]
    return f"{loaded.trace.model_type}-rank{rank}-{name}"


def _text(config: dict[str, Any]) -> str:
    return json.dumps(config, sort_keys=True, default=str)
