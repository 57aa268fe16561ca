from __future__ import annotations

import time

import mlx.core as mx
import pytest

from mlxserve.engine.freed import FreedBuffers

SIZE = 1 << 20


def leave_something() -> None:
    mx.eval(mx.zeros((SIZE,), mx.uint8) + 1)


def test_what_was_freed_is_kept_for_a_while_and_then_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    freed = FreedBuffers()
    for _ in range(2):
        leave_something()
        freed.give_back()
        assert mx.get_cache_memory() >= SIZE
        now[0] += 10.0
        freed.give_back()
        assert mx.get_cache_memory() == 0
