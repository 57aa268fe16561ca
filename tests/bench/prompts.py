"""Reading prompts: long ones, ones whose beginning was seen before, and conversations that grow."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack

from mlxserve.bench.answer import Answer
from mlxserve.bench.load import run
from mlxserve.bench.server import Server as Address
from mlxserve.bench.workloads import SHARED_WORDS, prose

from .asking import asked, bodies, median_first, numbers, one, with_content
from .goals import Goal, paired
from .server import SubjectError
from .setup import NO_GUESSES, Setup, say
from .subjects import LABELS, serving

LEAST_CACHED = 900
"""Of a prefix of about 1,000 tokens."""


def long_prompts(setup: Setup) -> list[Goal]:
    """The first token of prompts of 600 tokens, on two ranks and on one."""
    firsts: dict[str, list[float]] = {"mlxserve": [], "mlxserve-2": [], "peer-2-bare": []}
    for number in range(1, setup.rounds + 1):
        for subject, found in firsts.items():
            try:
                with serving(subject, setup.random(*NO_GUESSES)) as (url, _):
                    found.append(median_first(asked(url, "long-prompt", 1, 3, 4).answers))
            except SubjectError as error:
                say(f"long-prompt: {LABELS[subject]} failed: {error}")
                continue
            say(f"long-prompt, round {number} of {setup.rounds}: {LABELS[subject]}: {1000 * found[-1]:.0f} ms")
    what = "first token of a 600-token prompt, mlxserve on 2 ranks /"
    return [
        Goal("long-prompt", f"{what} on 1", "≤", 0.6, paired(firsts["mlxserve-2"], firsts["mlxserve"])),
        Goal("long-prompt", f"{what} peer's 2 bare", "≤", 0.6, paired(firsts["mlxserve-2"], firsts["peer-2-bare"])),
    ]


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

    The bound allows for the noise of two medians.
    """
    ratios = []
    with serving("mlxserve", setup.random(*NO_GUESSES)) as (url, _):
        asked(url, "chat", 1, 1, 4)
        for number in range(1, setup.rounds + 1):
            answers = run(Address(url), bodies("agent", 1, 4), 1).answers
            if errors := [answer.error for answer in answers if answer.error]:
                raise SubjectError(errors[0])
            early = sum(answer.first_token for answer in answers[1:3]) / 2
            late = sum(answer.first_token for answer in answers[-2:]) / 2
            ratios.append(late / early)
            say(f"turns, round {number} of {setup.rounds}: {_milliseconds(answers)}")
    what = "first token of turns 7 and 8 / of turns 2 and 3, each with as many new tokens"
    return [Goal("turns", what, "≤", 1.25, ratios)]


def _milliseconds(answers: list[Answer]) -> str:
    firsts = ", ".join(f"{1000 * answer.first_token:.0f}" for answer in answers)
    return f"first tokens {firsts} ms; cached {[answer.cached_tokens for answer in answers]}"
