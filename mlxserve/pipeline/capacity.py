"""What this rank's machine has for it: memory, and the speed at which it reads weights."""

from __future__ import annotations

import time

import mlx.core as mx

from mlxserve.config import Capacity, Settings
from mlxserve.pipeline.addresses import ranks_on_this_machine
from mlxserve.pipeline.free_memory import usable_bytes, within

_PARTS = 4
_PART_BYTES = 16 << 20
"""Of each of the matrices that are read one after the other: all together are more than caches hold."""
_WIDTH = 4096
_SECONDS = 0.06


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
    """Bytes a second of products of a matrix and a vector, the best of many: others may use the machine, too."""
    on_gpu = mx.default_device() == mx.gpu
    dtype = mx.float16 if on_gpu else mx.float32
    shape = (_PART_BYTES // _WIDTH // dtype.size, _WIDTH)
    matrices, vector = [mx.zeros(shape, dtype) for _ in range(_PARTS)], mx.zeros((1, _WIDTH), dtype)
    mx.eval([vector @ matrix.T for matrix in matrices])  # kernels are compiled
    # To start a GPU takes as long as a small product.
    rounds = [matrices] if on_gpu else [[matrix] for matrix in matrices]
    end, best = time.perf_counter() + _SECONDS, 0.0
    while time.perf_counter() < end:
        for together in rounds:
            start = time.perf_counter()
            mx.eval([vector @ matrix.T for matrix in together])
            best = max(best, len(together) * _PART_BYTES / (time.perf_counter() - start))
    del matrices, rounds, together
    mx.clear_cache()
    mx.reset_peak_memory()
    return best
