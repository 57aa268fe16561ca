"""Answers under way: with guesses, many at once, and while long prompts come in."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import threading

from mlxserve.bench.figures import percentiles, rates
from mlxserve.bench.load import run
from mlxserve.bench.server import Server as Address
from mlxserve.bench.workloads import WORKLOADS, Workload

from .asking import asked, bodies
from .goals import Goal, paired
from .server import SubjectError
from .setup import NO_GUESSES, Setup, say
from .subjects import serving

PROSE = Workload(
    "prose", "prose", lambda n: [[{"role": "user", "content": f"Story {n}: tell of a lighthouse keeper."}]]
)
MANY = 64
RUNNING = 4
RUNNING_TOKENS = 64
EVENTS = 10_000.0
MICROSECONDS = 100.0


def speculation(setup: Setup) -> list[Goal]:
    """Guessing from the text so far, against not guessing: the packaged model on two ranks, one stream."""
    speeds: dict[str, dict[str, list[float]]] = {"on": {}, "off": {}}
    for number in range(1, setup.rounds + 1):
        for mode, found in speeds.items():
            flags = NO_GUESSES if mode == "off" else ()
            with serving("mlxserve-2", setup.packaged(*flags)) as (url, _):
                for workload, tokens in ((WORKLOADS["edit"], 160), (PROSE, 96)):
                    speed = rates(asked(url, workload, 1, 2, tokens))
                    assert speed is not None
                    found.setdefault(workload.name, []).append(speed.tokens_per_second)
        told = {mode: {name: round(all_[-1], 1) for name, all_ in found.items()} for mode, found in speeds.items()}
        say(f"speculation, round {number} of {setup.rounds}: tokens/s {told}")
    return [
        Goal("speculation", f"{label}: tokens/s / with --speculation off, 2 ranks", "≥", bound, _gain(speeds, name))
        for label, name, bound in (("a code edit", "edit", 1.8), ("prose", "prose", 0.97))
    ]


def many(setup: Setup) -> list[Goal]:
    """64 requests at once: every one answered to its end, and no slower together than 16."""
    ratios, whole = [], []
    with serving("mlxserve", setup.random(*NO_GUESSES)) as (url, _):
        for number in range(1, setup.rounds + 1):
            few, all_ = (asked(url, "burst", streams, streams, setup.tokens) for streams in (16, MANY))
            complete = sum(answer.tokens == setup.tokens for answer in all_.answers)
            speeds = [found.tokens_per_second if (found := rates(each)) else 0.0 for each in (few, all_)]
            ratios.append(speeds[1] / speeds[0])
            whole.append(complete / MANY)
            say(f"many, round {number} of {setup.rounds}: {speeds[0]:.1f} at 16, {speeds[1]:.1f} tokens/s at {MANY}")
    return [
        Goal("many", f"tokens/s at {MANY} streams / at 16", "≥", 1.0, ratios),
        Goal("many", f"share of {MANY} answers that are whole", "≥", 1.0, whole),
    ]


def stalls(setup: Setup) -> list[Goal]:
    """The time between tokens of running streams, while 600-token prompts come in one after the other."""
    ratios = []
    with serving("mlxserve", setup.random(*NO_GUESSES)) as (url, _):
        for number in range(1, setup.rounds + 1):
            alone = _between(url, disturbed=False)
            disturbed = _between(url, disturbed=True)
            ratios.append(disturbed / alone)
            say(f"stalls, round {number} of {setup.rounds}: p95 {1000 * alone:.0f} ms alone, {1000 * disturbed:.0f} ms")
    what = f"p95 between tokens of {RUNNING} streams while 600-token prompts come / without"
    return [Goal("stalls", what, "≤", 3.0, ratios)]


def front(_: Setup) -> list[Goal]:
    """The node without its engine, as `python -m tests.bench.front` measures it."""
    events: list[float] = []
    cost: list[float] = []
    if importlib.util.find_spec("tests.bench.front"):
        done = subprocess.run([sys.executable, "-m", "tests.bench.front", "--json"], capture_output=True, text=True)
        if done.returncode:
            raise SubjectError(f"tests.bench.front failed:\n{done.stderr[-2000:]}")
        of_32 = next(each for each in json.loads(done.stdout)["batches"] if each["batch"] == 32)
        events, cost = [of_32["events_per_second"]], [of_32["cpu_microseconds"]]
    return [
        Goal("front", "the node alone: SSE events/s on one core, batch of 32", "≥", EVENTS, events),
        Goal("front", "the node alone: µs of CPU an event, batch of 32", "≤", MICROSECONDS, cost),
    ]


def _gain(speeds: dict[str, dict[str, list[float]]], workload: str) -> list[float]:
    return paired(speeds["on"].get(workload, []), speeds["off"].get(workload, []))


def _between(url: str, disturbed: bool) -> float:
    """Seconds between tokens, 95th percentile, of streams that run while prompts come in, or do not."""
    ended = threading.Event()
    asked(url, "chat", 1, 1, 4)
    disturbing = threading.Thread(target=_disturb, args=(url, ended))
    if disturbed:
        disturbing.start()
    try:
        done = run(Address(url), bodies("burst", RUNNING, RUNNING_TOKENS), RUNNING)
    finally:
        ended.set()
        if disturbed:
            disturbing.join()
    if errors := [answer.error for answer in done.answers if answer.error]:
        raise SubjectError(errors[0])
    found = percentiles([gap for answer in done.answers for gap in answer.gaps])
    assert found is not None
    return found.p95


def _disturb(url: str, ended: threading.Event) -> None:
    """Long prompts one after the other, the next at once when one is answered, until `ended`."""
    address = Address(url)
    while not ended.is_set():
        for conversation in bodies("long-prompt", 1, 2):
            address.ask(conversation[0])
