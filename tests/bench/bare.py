"""The limit: a bare greedy loop over the model, without a server, prompts not counted.

Run as `python -m tests.bench.bare FOLDER TOKENS BATCH…`; prints the tokens per second of each batch size as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import perf_counter

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import BatchKVCache
from mlx_lm.utils import load_model

WARM_UP_TOKENS = 4
PROMPT_LENGTH = 57
"""As long as the prompts of the workload chat with the packaged model's template."""


def decode_speed(model: nn.Module, batch: int, tokens: int) -> float:
    """Tokens after the first per second, `batch` sequences together; each step enqueued before the last is read."""
    caches = [BatchKVCache([0] * batch) for _ in model.layers]
    prompts = mx.random.randint(0, model.args.vocab_size, (batch, PROMPT_LENGTH))
    token = _step(model, prompts, caches)
    mx.eval(token)
    start = perf_counter()
    for _ in range(tokens - 1):
        following = _step(model, token[:, None], caches)
        mx.async_eval(following)  # type: ignore[no-untyped-call]
        token.tolist()
        token = following
    mx.eval(token)
    return batch * (tokens - 1) / (perf_counter() - start)


def _step(model: nn.Module, tokens: mx.array, caches: list[BatchKVCache]) -> mx.array:
    """`tokens` [batch, length] → the next token of each sequence, [batch]."""
    return mx.argmax(model(tokens, cache=caches)[:, -1], axis=-1)


def main(folder: str, tokens: str, *batches: str) -> None:
    model, _ = load_model(Path(folder))
    speeds = []
    for batch in map(int, batches):
        decode_speed(model, batch, WARM_UP_TOKENS)
        speeds.append(decode_speed(model, batch, int(tokens)))
    print(json.dumps(speeds))


if __name__ == "__main__":
    main(*sys.argv[1:])
