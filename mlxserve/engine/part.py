"""This rank's part of the model that the settings name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mlxserve.config import Settings
from mlxserve.engine.check import random_model
from mlxserve.models.source import find_model
from mlxserve.pipeline.loading import LoadedModel, load_model, load_source


@dataclass(frozen=True)
class Part:
    """This rank's layers in memory, and the config of the whole model."""

    loaded: LoadedModel
    config: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Equal on all ranks that serve the same model, cut and computed alike."""
        trace = self.loaded.trace
        shapes = [(boundary.trailing, str(boundary.dtype)) for boundary in trace.boundaries]
        parts = (trace.model_type, shapes, self.loaded.split, json.dumps(self.config, sort_keys=True, default=str))
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def load_part(
    settings: Settings, report: Callable[[str], None], found: Callable[[str], None] = lambda folder: None
) -> Part:
    """Find, fetch and load; `found` is told the model's folder as soon as it is known. Raises UserError."""
    if not settings.model:
        model, config = random_model(settings.place.world_size)
        return Part(load_model(model, settings), config)
    source = find_model(settings.model, report)
    found(str(source.folder))
    return Part(load_source(source, settings, report), source.config)
