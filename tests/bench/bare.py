"""The limit: a bare greedy loop over the model, without a server.

Run as `python -m tests.bench.bare FOLDER speeds TOKENS ANSWER BATCH…` or `… FOLDER reading NEW,BEFORE…`; prints JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import BatchKVCache
from mlx_lm.utils import load_model

from mlxserve.engine.kernels import compile_for_this_processor
from mlxserve.pipeline.composed import compose

WARM_UP_TOKENS = 4
PROMPT_LENGTH = 51
"""As long as the prompts that servers are asked, with the models' template."""
READINGS = 3


def speeds(model: nn.Module, batch: int, tokens: int, answer: int) -> tuple[float, float]:
    """Tokens per second of `batch` sequences together: after the first, by `tokens`; with prompts, of an `answer`.

    Each step is enqueued before the last is read. Prompts are read as mlx-lm does: all but the last token, then that.
    """
    caches = [BatchKVCache([0] * batch) for _ in model.layers]
    prompts = mx.random.randint(0, model.args.vocab_size, (batch, PROMPT_LENGTH))
    mx.eval(prompts)
    start = perf_counter()
    _read(model, prompts[:, :-1], caches)
    token = _step(model, prompts[:, -1:], caches)
    mx.eval(token)
    began = perf_counter()
    for _ in range(tokens - 1):
        following = _step(model, token[:, None], caches)
        mx.async_eval(following)  # type: ignore[no-untyped-call]
        token.tolist()
        token = following
    mx.eval(token)
    step = (perf_counter() - began) / (tokens - 1)
    return batch / step, batch * answer / (began - start + (answer - 1) * step)


def reading(model: nn.Module, new: int, before: int) -> float:
    """Seconds to the first token of a sequence whose first `before` tokens have been read: `new` are yet to be."""
    caches = [BatchKVCache([0]) for _ in model.layers]
    prompt = mx.random.randint(0, model.args.vocab_size, (1, before + new))
    if before:
        _read(model, prompt[:, :before], caches)
    start = perf_counter()
    _read(model, prompt[:, before:-1], caches)
    mx.eval(_step(model, prompt[:, -1:], caches))
    return perf_counter() - start


def _read(model: nn.Module, tokens: mx.array, caches: list[BatchKVCache]) -> None:
    model(tokens, cache=caches)
    mx.eval([cache.state for cache in caches])


def _step(model: nn.Module, tokens: mx.array, caches: list[BatchKVCache]) -> mx.array:
    """`tokens` [batch, length] → the next token of each sequence, [batch]."""
    return mx.argmax(model(tokens, cache=caches)[:, -1], axis=-1)


def main(folder: str, what: str, *numbers: str) -> None:
    compose(compile_for_this_processor())
    model, _ = load_model(Path(folder))
    speeds(model, 1, WARM_UP_TOKENS, 1)
    found: list[object] = []
    if what == "reading":
        for pair in numbers:
            new, before = map(int, pair.split(","))
            found.append(median(reading(model, new, before) for _ in range(READINGS)))
    else:
        tokens, answer, *batches = map(int, numbers)
        for batch in batches:
            speeds(model, batch, WARM_UP_TOKENS, 1)
            found.append(speeds(model, batch, tokens, answer))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
