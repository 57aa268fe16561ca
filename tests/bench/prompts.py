"""Reading prompts: long ones, ones whose beginning was seen before, and conversations that grow."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from statistics import median

from mlxserve.bench.answer import Answer
from mlxserve.bench.load import run
from mlxserve.bench.server import Server as Address
from mlxserve.bench.workloads import SHARED_WORDS, prose

from .asking import asked, bodies, median_first, numbers, one, with_content
from .goals import Goal, paired
from .model import LAYERS
from .server import SubjectError
from .setup import NO_GUESSES, Setup, say
from .subjects import LABELS, bare_pair_reading, bare_reading, serving

LONG_TOKENS = 600
"""About what the prompts of the workload long-prompt have with the template."""
CHUNKS = (4, 5, 6, 8, 10)
CHUNKS_TO_AND_FRO = (2, 4, 6)
LEAST_CACHED = 900
"""Of a prefix of about 1,000 tokens."""


def long_prompts(setup: Setup) -> list[Goal]:
    """The first token of prompts of 600 tokens, on two ranks and on one."""
    firsts: dict[str, list[float]] = {"mlxserve": [], "mlxserve-2": [], "peer-2-bare": []}
    alone: list[float] = []
    pair: list[float] = []
    to_and_fro: list[float] = []
    for number in range(1, setup.rounds + 1):
        alone.append(_limit_of_one(setup, number))
        pair.append(_limit_of_two(setup, number, CHUNKS))
        to_and_fro.append(_limit_of_two(setup, number, CHUNKS_TO_AND_FRO, LAYERS // 2))
        for subject, found in firsts.items():
            try:
                with serving(subject, setup.random(*NO_GUESSES)) as (url, _):
                    found.append(median_first(asked(url, "long-prompt", 1, 3, 4).answers))
            except SubjectError as error:
                say(f"long-prompt: {LABELS[subject]} failed: {error}")
                continue
            say(f"long-prompt, round {number} of {setup.rounds}: {LABELS[subject]}: {1000 * found[-1]:.0f} ms")
    what = "first token of a 600-token prompt, mlxserve on 2 ranks /"
    goals = []
    limit = (
        f"bare loops, 2 processes / 1: {median(paired(pair, alone)):.2f}; "
        f"every other layer in each: {median(paired(to_and_fro, alone)):.2f}"
    )
    for subject, name, note in (("mlxserve", "on 1", limit), ("peer-2-bare", "peer's 2 bare", "")):
        ratios = paired(firsts["mlxserve-2"], firsts[subject])
        goals.append(Goal("long-prompt", f"{what} {name}", "≤", 0.6, ratios, note))
    return goals


def _limit_of_one(setup: Setup, number: int) -> float:
    """Seconds that one process takes without any server."""
    (seconds,) = bare_reading(setup.random(), [(LONG_TOKENS, 0)])
    say(f"long-prompt, round {number} of {setup.rounds}: {LABELS['bare']}: {1000 * seconds:.0f} ms")
    return seconds


def _limit_of_two(setup: Setup, number: int, numbers: tuple[int, ...], lots: int = 1) -> float:
    """Seconds that two processes take without any server, with the best of these numbers of chunks.

    Each has so many lots of layers.
    """
    seconds = bare_pair_reading(setup.random(), LONG_TOKENS, numbers, lots)
    told = ", ".join(f"{chunks} chunks {1000 * each:.0f}" for chunks, each in zip(numbers, seconds, strict=True))
    what = f"{LABELS['bare-2']}, {lots} lots of layers in each" if lots > 1 else LABELS["bare-2"]
    say(f"long-prompt, round {number} of {setup.rounds}: {what}: {told} ms")
    return min(seconds)


def prefixes(setup: Setup) -> list[Goal]:
    """A second request with a 1,000-token prefix, at once and after a restart."""
    warm, cached, restarted = [], [], []
    for number in range(1, setup.rounds + 1):
        with tempfile.TemporaryDirectory() as folder, ExitStack() as server:
            start = setup.random(*NO_GUESSES, "--prefix-cache-dir", folder)
            prefix = f"{numbers(1)[0]} is your number. {prose(number, SHARED_WORDS)}"
            url, _ = server.enter_context(serving("mlxserve", start))
            asked(url, "chat", 1, 1, 4)
            cold = one(url, with_content(prefix, 4))
            second = one(url, with_content(prefix, 4))
            server.close()
            url, _ = server.enter_context(serving("mlxserve", start))
            asked(url, "chat", 1, 1, 4)
            third = one(url, with_content(prefix, 4))
        warm.append(second.first_token / cold.first_token)
        cached.append(float(second.cached_tokens))
        restarted.append(third.first_token / cold.first_token)
        say(f"prefix, round {number} of {setup.rounds}: {_milliseconds([cold, second, third])}")
    return [
        Goal("prefix", "first token after a 1,000-token prefix seen before / cold", "≤", 0.12, warm),
        Goal("prefix", "cached_tokens of that request", "≥", LEAST_CACHED, cached),
        Goal("prefix", "first token after a restart with --prefix-cache-dir / cold", "≤", 0.25, restarted),
    ]


def turns(setup: Setup) -> list[Goal]:
    """A conversation of 8 turns: what the last turn's first token takes, against what its new tokens alone cost.

    Each turn has about as many new tokens, but they look at more and more old ones: a bare loop tells what that takes.
    """
    ratios = []
    start = setup.random(*NO_GUESSES)
    with serving("mlxserve", start) as (url, _):
        asked(url, "chat", 1, 1, 4)
        for number in range(1, setup.rounds + 1):
            answers = run(Address(url), bodies("agent", 1, 4), 1).answers
            if errors := [answer.error for answer in answers if answer.error]:
                raise SubjectError(errors[0])
            chosen = [*answers[1:3], *answers[-2:]]
            bare = bare_reading(start, [(one.prompt_tokens - one.cached_tokens, one.cached_tokens) for one in chosen])
            ratios.append(_growth([one.first_token for one in chosen]) / _growth(bare))
            told = ", ".join(f"{1000 * seconds:.0f}" for seconds in bare)
            say(f"turns, round {number} of {setup.rounds}: {_milliseconds(answers)}; bare, turns 2, 3, 7, 8: {told} ms")
    what = (
        "growth of the first token's time from turns 2 and 3 to 7 and 8 / that of reading the new tokens in a bare loop"
    )
    return [Goal("turns", what, "≤", 1.1, ratios)]


def _growth(seconds: list[float]) -> float:
    """Of the last two to the first two."""
    return sum(seconds[-2:]) / sum(seconds[:2])


def _milliseconds(answers: list[Answer]) -> str:
    firsts = ", ".join(f"{1000 * answer.first_token:.0f}" for answer in answers)
    return f"first tokens {firsts} ms; cached {[answer.cached_tokens for answer in answers]}"
