"""The relay's self-test: all ranks exchange known bit patterns together, and time it."""

from __future__ import annotations

import time

import mlx.core as mx
import msgspec

from mlxserve.pipeline.relay import WORD, Parcel, Relay

SIZES = (8, 16 << 10, 256 << 10, 4 << 20)
"""Bytes that each rank gives: a ping, a decode step's, a batch's, a prompt chunk's."""
_REPEATS = 8


class RelayFindings(msgspec.Struct, frozen=True, tag="relay"):
    """What one rank saw: which messages arrived unchanged, and the median seconds of an exchange, per size."""

    exact: dict[int, bool]
    seconds: dict[int, float]


def exchange_patterns(relay: Relay, rank: int, world_size: int) -> RelayFindings:
    """Send a pattern of every size round the ring; all ranks call this together."""
    exact, seconds = {}, {}
    for size in SIZES:
        mine, expected = _pattern(rank, size), _pattern((rank - 1) % world_size, size)
        mx.eval(mine, expected)
        parcels: list[Parcel | None] = [Parcel((size // WORD,), mx.uint64)] * world_size
        times = []
        arrived = True
        for _ in range(_REPEATS):
            start = time.perf_counter()
            received = relay.exchange(parcels, mine)
            times.append(time.perf_counter() - start)
            arrived = arrived and received is not None and bool(mx.array_equal(received, expected).item())
        exact[size], seconds[size] = arrived, sorted(times)[_REPEATS // 2]
    return RelayFindings(exact, seconds)


def _pattern(rank: int, size: int) -> mx.array:
    """Pseudo-random words with the sign bit often set: any pattern that floats would not survive is among them."""
    words = mx.random.randint(0, 2**32 - 1, (size // 4,), mx.uint32, key=mx.random.key(rank + 1))
    return words.view(mx.uint64)
