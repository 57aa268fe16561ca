"""What `mlxserve bench` is asked to measure."""

from __future__ import annotations

import msgspec


class BenchRequest(msgspec.Struct, frozen=True):
    """The flags of `mlxserve bench`, read; zeros and empty texts where a flag is not given."""

    url: str
    against: str
    workloads: tuple[str, ...]
    streams: tuple[int, ...]
    requests: int
    tokens: int
    rounds: int
    model: str
    against_model: str
    api_key: str
    temperature: float | None
    seed: int
    json: str
