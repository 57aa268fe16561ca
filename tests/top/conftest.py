"""The server of tests/api."""

from __future__ import annotations

from tests.bench_tool.conftest import anyio_backend, base, engine, folder, plain, rough, serve, settings

__all__ = ["anyio_backend", "base", "engine", "folder", "plain", "rough", "serve", "settings"]
