"""What this rank's machine has for it: memory, and the speed at which it reads weights."""

from __future__ import annotations

import time

import mlx.core as mx

from mlxserve.config import Capacity, Settings
from mlxserve.pipeline.addresses import ranks_on_this_machine
from mlxserve.pipeline.free_memory import usable_bytes, within

_BYTES = 64 << 20
"""Of the matrix that is read: more than any cache holds."""
_WIDTH = 4096
_PRODUCTS = 2
"""At once, so that starting them costs little of the time."""
_SECONDS = 0.08


def measure_capacity(settings: Settings) -> Capacity:
    """What this rank has before anything is loaded; takes about 0.15 s. To be called by the MLX thread."""
    memory = usable_bytes() // ranks_on_this_machine(settings.place)
    return Capacity(within(settings.own_memory_limit, memory), _reading_speed())


def levelled(hosts: list[str], ranks: list[Capacity]) -> list[Capacity]:
    """`ranks`, those of one host as fast as the fastest of them: they disturb each other while they measure."""
    fastest = {
        host: max(each.bytes_per_second for other, each in zip(hosts, ranks, strict=True) if other == host)
        for host in hosts
    }
    return [Capacity(each.memory_bytes, fastest[host]) for host, each in zip(hosts, ranks, strict=True)]


def _reading_speed() -> float:
    """Bytes a second of products of a matrix and a vector, the best of a few."""
    dtype = mx.float16 if mx.default_device() == mx.Device(mx.gpu) else mx.float32
    matrix = mx.zeros((_BYTES // _WIDTH // dtype.size, _WIDTH), dtype)
    vectors = [mx.full((1, _WIDTH), number, dtype) for number in range(_PRODUCTS)]
    mx.eval(matrix, vectors)
    best, end = 0.0, 0.0
    while not end or time.perf_counter() < end:
        start = time.perf_counter()
        mx.eval([vector @ matrix.T for vector in vectors])
        now = time.perf_counter()
        if end:  # the first pass warms up
            best = max(best, _PRODUCTS * matrix.nbytes / (now - start))
        end = end or now + _SECONDS
    del matrix, vectors
    mx.clear_cache()
    mx.reset_peak_memory()
    return best
