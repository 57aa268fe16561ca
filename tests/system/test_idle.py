"""An idle cluster uses no CPU, and answers the next request at once."""

from __future__ import annotations

import time

import pytest

from tests.conftest import Shared
from tests.system.test_chat import ask_streamed

SECONDS = 20.0
MOST = 0.02
"""Share of one core, all processes together."""


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_without_requests_hardly_any_cpu_is_used(shared: Shared, ranks: int) -> None:
    server = shared(ranks)
    ask_streamed(server)
    start = time.perf_counter()
    ask_streamed(server)
    warm = time.perf_counter() - start
    before = server.cpu_seconds()
    time.sleep(SECONDS)  # what is measured is a stretch of time
    used = (server.cpu_seconds() - before) / SECONDS
    start = time.perf_counter()
    ask_streamed(server)
    print(f"{ranks} ranks: {used:.2%} of a core; warm answer {warm:.2f} s, answer after idling below")
    assert used < MOST
    assert time.perf_counter() - start < 4 * warm + 2, "no group has to form anew"
