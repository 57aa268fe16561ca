"""This rank's part of the model that the settings name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlxserve.config import Place, Settings
from mlxserve.engine.check import random_model
from mlxserve.models.source import find_model
from mlxserve.pipeline.free_memory import free_bytes
from mlxserve.pipeline.link import Loaded
from mlxserve.pipeline.loading import LoadedModel, load_model, load_source


@dataclass(frozen=True)
class Part:
    """This rank's layers in memory, and the config of the whole model."""

    loaded: LoadedModel
    config: dict[str, Any]
    folder: Path
    """Where the tokenizer is."""

    @property
    def traits(self) -> dict[str, str]:
        """By name, what is equal on all ranks that serve the same model, cut and computed alike."""
        text = json.dumps(self.config, sort_keys=True, default=str)
        boundaries = {f"{list(boundary.trailing)} {boundary.dtype}" for boundary in self.loaded.trace.boundaries}
        return {
            "a config with the digest": hashlib.sha256(text.encode()).hexdigest()[:12],
            "layers split into": " + ".join(str(len(calls)) for calls in self.loaded.split),
            "hidden states of": ", ".join(sorted(boundaries)),
        }

    def told(self, place: Place) -> Loaded:
        """What rank 0 must know of it."""
        loaded = self.loaded
        return Loaded(
            batchable=loaded.batchable,
            cuttable=loaded.stage.cuttable,
            footprint=loaded.footprint,
            free_bytes=free_bytes(place),
            traits=self.traits,
        )


def load_part(
    settings: Settings, report: Callable[[str], None], found: Callable[[str], None] = lambda folder: None
) -> Part:
    """Find, fetch and load; `found` is told the model's folder as soon as it is known. Raises UserError."""
    if not settings.model:
        model, config = random_model(settings.place.world_size)
        return Part(load_model(model, settings), config, Path())
    source = find_model(settings.model, report)
    found(str(source.folder))
    return Part(load_source(source, settings, report), source.config, source.folder)
