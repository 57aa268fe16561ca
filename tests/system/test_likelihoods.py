"""The log-probabilities of prompts over two ranks are mlx-lm's own: what evaluation harnesses build on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import zip_longest
from typing import Any

import httpx

from mlxserve.config import Place
from mlxserve.engine.environment import engine_environment
from tests.conftest import Shared

TOLERANCE = 1e-3
"""In natural logarithms."""

TEXTS = [
    "The capital of France is Paris.",
    "def add(a, b):\n    return a + b\n",
    "Ünïcödé, 日本語 and 🎉: parts of characters are tokens.",
    "Water boils at a hundred degrees. " * 20,
    "Once upon a time there was a small town by the sea, and in it lived an old clockmaker. " * 18,
    "Yes",
]
"""One of them longer than a chunk that is read at once, one of a single token."""


def test_prompts_likelihoods_are_those_of_mlx_lm(shared: Shared) -> None:
    """As lm-evaluation-harness's `local-completions` asks: lists of tokens, echoed, with one token that it drops."""
    expected = _computed(TEXTS)
    request = {
        "model": "demo",
        "prompt": [one["tokens"] for one in expected],
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }
    answer = httpx.post(f"{shared(2).url}/v1/completions", json=request, timeout=120)
    assert answer.status_code == 200, answer.text
    choices = answer.json()["choices"]
    assert [choice["index"] for choice in choices] == list(range(len(TEXTS)))
    largest = 0.0
    for text, choice, known in zip(TEXTS, choices, expected, strict=True):
        logprobs = choice["logprobs"]
        assert choice["text"].startswith(text)
        assert len(logprobs["token_logprobs"]) == len(known["tokens"]) + 1
        assert logprobs["token_logprobs"][0] is None
        greedy = [
            logprob == max(top.values())
            for logprob, top in zip(logprobs["token_logprobs"][1:-1], logprobs["top_logprobs"][1:-1], strict=True)
        ]
        assert greedy == known["greedy"]
        for found, right in zip_longest(logprobs["token_logprobs"][1:-1], known["logprobs"]):
            largest = max(largest, abs(found - right))
    print(f"largest difference: {largest:.1e}")
    assert largest <= TOLERANCE


def _computed(texts: list[str]) -> list[dict[str, Any]]:
    result = subprocess.run(
        [sys.executable, "-m", "tests.system.test_likelihoods"],
        input=json.dumps(texts),
        env=engine_environment(os.environ, Place()),
        capture_output=True,
        text=True,
        check=True,
    )
    return list(json.loads(result.stdout.splitlines()[-1]))


def compute(texts: list[str]) -> list[dict[str, Any]]:
    """By mlx-lm's model on one rank: each text's tokens and, from the second on, their log-probabilities."""
    import mlx.core as mx
    import mlx.nn as nn

    from mlxserve.models.source import find_model

    source = find_model("demo", lambda text: None)
    model = source.load("float32")
    from mlx_lm.utils import load_tokenizer

    tokenizer = load_tokenizer(source.folder)
    found = []
    for text in texts:
        tokens = tokenizer.encode(text)
        logprobs = nn.log_softmax(model(mx.array([tokens]))[0, :-1], axis=-1)
        own = mx.take_along_axis(logprobs, mx.array(tokens[1:], dtype=mx.int32)[:, None], axis=-1)[:, 0]
        best = mx.argmax(logprobs, axis=-1).tolist() if len(tokens) > 1 else []
        greedy = [token == likeliest for token, likeliest in zip(tokens[1:], best, strict=True)]
        found.append({"tokens": tokens, "logprobs": own.tolist(), "greedy": greedy})
    return found


if __name__ == "__main__":
    print(json.dumps(compute(json.load(sys.stdin))))
