"""Caches, tiny models and a hub as of tests/models, and the server of tests/api."""

from __future__ import annotations

from tests.bench_tool.conftest import anyio_backend, base, engine, folder, plain, rough, serve, settings
from tests.models.conftest import cache, dead, hub, sharded

__all__ = [
    "anyio_backend", "base", "cache", "dead", "engine", "folder", "hub", "plain", "rough", "serve", "settings",
    "sharded",
]  # fmt: skip
