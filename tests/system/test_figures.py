"""That what grows is seen to grow, and nothing else."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable

import pytest

from tests.system.figures import Sampler
from tests.system.server import Server

SAMPLES = 40
SECONDS = 0.05
LEAK = """
import signal, threading, time
kept = [b"1" * 50_000_000]
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
print("up", flush=True)
signal.sigwait([signal.SIGUSR1])
while True:
    time.sleep(0.05)
    {}
"""
MEMORY = 'kept.append(b"1" * 1_000_000)'
FILES = 'kept.append(open("/dev/null"))'
THREADS = "threading.Thread(target=time.sleep, args=(9,), daemon=True).start()"


@pytest.mark.parametrize(
    ("leak", "seen"),
    [("pass", ""), (MEMORY, "more memory"), (FILES, "more files"), (THREADS, "more threads"), ("break", "has ended")],
)
def test_what_a_process_loses_is_told(own: Callable[[Server], Server], leak: str, seen: str) -> None:
    leaking = own(Server([sys.executable, "-c", LEAK.format(leak)], 0))
    while "up" not in leaking.output:
        time.sleep(SECONDS)
    with Sampler(leaking, SECONDS) as sampler:
        leaking.process.send_signal(signal.SIGUSR1)
        time.sleep(SAMPLES * SECONDS)
    [growth] = sampler.growth()
    assert seen in growth.problem
    assert bool(seen) == bool(growth.problem)
    assert growth.name in str(growth)
