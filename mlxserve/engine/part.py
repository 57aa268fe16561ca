"""This rank's part of the model that the settings name."""

from __future__ import annotations

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
