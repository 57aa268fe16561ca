"""Whether two texts part where the model itself can hardly decide: rounding may then tip the scale either way."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys

from mlxserve.config import Place
from mlxserve.engine.environment import engine_environment

MARGIN = 1e-4
"""Difference of the two leading logits, with the seed's noise, within which either token is right."""


def is_near_tie(prompt: str, temperature: float, seed: int, expected: str, actual: str) -> bool:
    """Compute the logits at the first token in which the texts differ, on one rank, and compare the two leaders."""
    case = {"prompt": prompt, "temperature": temperature, "seed": seed, "texts": [expected, actual]}
    result = subprocess.run(
        [sys.executable, "-m", "tests.system.near_tie"],
        input=json.dumps(case),
        env=engine_environment(os.environ, Place()),
        capture_output=True,
        text=True,
        check=True,
    )
    gap = float(result.stdout.splitlines()[-1])
    print(f"{prompt!r}: {expected!r} and {actual!r} part where the leaders are {gap:.2e} apart")
    return gap <= MARGIN


def gap_between_leaders(prompt: str, temperature: float, seed: int, texts: list[str]) -> float:
    """How far the two best candidates for the first differing token are apart, as the sampler sees them."""
    from pathlib import Path

    import mlx.core as mx

    from mlxserve.engine.messages import Sampling
    from mlxserve.engine.sampler import scores
    from mlxserve.models.source import find_model
    from mlxserve.text.template import Chat
    from mlxserve.text.tokenizer import load_tokenizer

    source = find_model("demo", lambda text: None)
    tokenizer = load_tokenizer(Path(source.folder))
    start = tokenizer.chat_template.encode(Chat([{"role": "user", "content": prompt}]))
    encoded = [tokenizer._wrapper.encode(text, add_special_tokens=False) for text in texts]
    common = [one for one, other in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(*encoded, strict=False))]
    model = source.load("float32")
    logits = model(mx.array([[*start, *common]]))[:, -1]
    best = mx.sort(scores(logits, [Sampling(seed, temperature, 0.95)], [len(common)]), axis=-1)[0, -2:]
    return float((best[1] - best[0]).item())


if __name__ == "__main__":
    asked = json.load(sys.stdin)
    print(gap_between_leaders(asked["prompt"], asked["temperature"], asked["seed"], asked["texts"]))
