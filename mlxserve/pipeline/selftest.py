"""The relay's self-test: all ranks exchange known bit patterns together, by either collective, and time it."""

from __future__ import annotations

import time
from typing import get_args

import mlx.core as mx
import msgspec

from mlxserve.errors import DamagedData
from mlxserve.pipeline.collective import Way
from mlxserve.pipeline.relay import WORD, Parcel, Relay, Times

SIZES = (8, 16 << 10, 256 << 10, 4 << 20)
"""Bytes that each rank gives: a ping, a decode step's, a batch's, a prompt chunk's."""
BRIEF_SIZES = SIZES[:3]
"""Enough to choose by: larger ones are carried in pieces of the last."""
_REPEATS = 8


class TimeRelay(msgspec.Struct, frozen=True, tag="time"):
    """Rank 0's word that all ranks are now to exchange patterns of these sizes."""

    sizes: tuple[int, ...]


class RelayTimes(msgspec.Struct, frozen=True, tag="times"):
    """What rank 0 measured, for all ranks to choose by."""

    seconds: Times


class RelayFindings(msgspec.Struct, frozen=True, tag="relay"):
    """What one rank saw: which messages arrived unchanged, and the median seconds of an exchange, per size."""

    exact: dict[Way, dict[int, bool]]
    seconds: Times


def exchange_patterns(relay: Relay, rank: int, world_size: int, sizes: tuple[int, ...]) -> RelayFindings:
    """Send a pattern of every size round the ring by every way; all ranks call this together."""
    findings = RelayFindings({}, {})
    for way in get_args(Way):
        findings.exact[way], findings.seconds[way] = {}, {}
        for size in sizes:
            arrived, seconds = _exchange(relay, rank, world_size, size, way)
            findings.exact[way][size], findings.seconds[way][size] = arrived, seconds
    return findings


def require_exact(findings: list[RelayFindings]) -> None:
    """Raise DamagedData where a rank, whose number is the place in `findings`, received something changed."""
    for rank, finding in enumerate(findings):
        for way, sizes in finding.exact.items():
            for size, exact in sizes.items():
                if not exact:
                    raise DamagedData(f"what rank {rank} received of {shown(size)} by {way} differs from what was sent")


def shown(size: int) -> str:
    """A number of bytes for people."""
    for unit, limit in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size >= limit:
            return f"{size // limit} {unit}"
    return f"{size} B"


def _exchange(relay: Relay, rank: int, world_size: int, size: int, way: Way) -> tuple[bool, float]:
    """Whether a pattern of `size` bytes arrives each time, and the median of the times."""
    mine, expected = _pattern(rank, size), _pattern((rank - 1) % world_size, size)
    mx.eval(mine, expected)
    parcels = [[Parcel((size // WORD,), mx.uint64)]] * world_size
    times, arrived = [], True
    for _ in range(_REPEATS):
        start = time.perf_counter()
        received = relay.exchange(parcels, [mine], way)
        times.append(time.perf_counter() - start)
        arrived = arrived and bool(mx.array_equal(received[0], expected).item())
    return arrived, sorted(times)[_REPEATS // 2]


def _pattern(rank: int, size: int) -> mx.array:
    """Pseudo-random words with the sign bit often set: any pattern that floats would not survive is among them."""
    words = mx.random.randint(0, 2**32 - 1, (size // 4,), mx.uint32, key=mx.random.key(rank + 1))
    return words.view(mx.uint64)
