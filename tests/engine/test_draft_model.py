from __future__ import annotations

from functools import cache

import mlx.core as mx
from mlx_lm.utils import _get_classes

from mlxserve.config import Settings
from mlxserve.engine.draft_model import DraftModel
from mlxserve.engine.messages import Sampling
from mlxserve.engine.pace import Pace
from mlxserve.engine.sequence import Sequence
from mlxserve.engine.speculation import Speculation
from mlxserve.engine.verification import verify
from mlxserve.pipeline.loading import load_model
from mlxserve.pipeline.pipeline import OneRank
from mlxserve.pipeline.stage import Stage
from tests.engine.test_verification import emit
from tests.engine.tiny import GREEDY, VOCABULARY, logits_after, submit

PROMPTS = [[(7 * row + 3 * column * column) % 500 for column in range(9 + 5 * row)] for row in range(4)]
SETTINGS = [GREEDY, Sampling(5, 1.0), Sampling(6, 0.8, 0.9, 40, 0.02), Sampling(7, 1.0, presence_penalty=0.5)]


@cache
def stage(seed: int, vocabulary: int) -> Stage:
    """A model like the large one in tests, with seed 0 the same."""
    config = {
        "model_type": "qwen2",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
    }
    mx.random.seed(seed)
    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    model.eval()
    return load_model(model, Settings()).stage


def draft_model(seed: int = 0, vocabulary: int = VOCABULARY) -> DraftModel:
    stage(seed, vocabulary).reset()
    return DraftModel(OneRank(stage(seed, vocabulary), True), VOCABULARY, Pace(1))


def sequences(tokens: int = 40) -> list[Sequence]:
    return [submit(n, prompt, tokens, SETTINGS[n]) for n, prompt in enumerate(PROMPTS)]


def write(running: list[Sequence], speculation: Speculation) -> int:
    """Let all end, by passes through the large model. Returns how many it took."""
    passes = 0
    while rows := [one for one in running if not one.done]:
        one_pass(rows, speculation)
        passes += 1
    return passes


def one_pass(rows: list[Sequence], speculation: Speculation) -> list[list[int]]:
    """Returns the guesses."""
    guesses = speculation.guesses(rows)
    if guesses is None:
        for one in rows:
            tokens = verify(logits_after(one.tokens)[-1:][None], [one], no_guesses)
            emit(one, tokens[0])
        return [[] for _ in rows]
    inputs = guesses.inputs(rows).tolist()
    assert isinstance(inputs, list)
    logits = mx.stack(
        [logits_after(one.tokens[:-1] + row)[-len(row) :] for one, row in zip(rows, inputs, strict=True)]  # type: ignore[arg-type,operator]
    )
    verdicts = verify(logits, rows, guesses)
    speculation.settle(rows, guesses, verdicts)
    for one, verdict in zip(rows, verdicts, strict=True):
        emit(one, verdict)
    return guesses.rows
