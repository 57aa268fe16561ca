"""What the launcher orders on a host: one line of JSON, on the standard input of `mlxserve detached`."""

from __future__ import annotations

import msgspec


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """Start `mlxserve words…` as the rank `name`, unless it runs, and follow it."""

    name: str
    words: tuple[str, ...]
    environment: dict[str, str] = {}
    files: dict[str, str] = {}
    """The contents of the files whose names a variable must hold, by variable."""
    secrets: dict[str, str] = {}
    """More variables, which are written nowhere."""
    address: str = ""
    """`host:port` where this rank is going to serve HTTP; empty: another does."""
    has_tls: bool = False
    for_good: bool = False
    """Whether to follow it until it ends, not only until it serves."""


class End(msgspec.Struct, frozen=True, tag="end"):
    """End the rank `name`, which may finish for `drain_seconds` what it has begun."""

    name: str
    drain_seconds: float


def line_of(order: Begin | End) -> str:
    """The order as it is sent, without the end of the line."""
    return msgspec.json.encode(order).decode()


def rank_name(port: int, rank: int) -> str:
    """What tells a rank from others on its machine: the port that rank 0 serves on, and its number."""
    return f"{port}-rank{rank}"
