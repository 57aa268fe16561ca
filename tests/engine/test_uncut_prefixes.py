"""Stored prefixes of models whose caches cannot be cut: rotating ones, and recurrent states."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.utils import _get_classes

from mlxserve.config import Settings
from mlxserve.engine.memory import Bound, Ledger
from mlxserve.engine.messages import Submit
from mlxserve.engine.pace import Pace
from mlxserve.engine.prefix import PrefixIndex
from mlxserve.engine.scheduler import Limits, Scheduler
from mlxserve.engine.sequence import Sequence
from mlxserve.pipeline.loading import LoadedModel, load_model
from mlxserve.pipeline.pipeline import OneRank
from tests.engine.tiny import GREEDY, VOCABULARY, Log

CONFIGS: dict[str, dict[str, Any]] = {
    "gemma3_text": {
        "model_type": "gemma3_text",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rms_norm_eps": 1e-6,
        "vocab_size": VOCABULARY,
        "sliding_window": 24,
        "sliding_window_pattern": 2,
    },
    "lfm2": {
        "model_type": "lfm2",
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "norm_eps": 1e-5,
        "conv_bias": False,
        "conv_L_cache": 3,
        "block_dim": 64,
        "block_ff_dim": 128,
        "block_multiple_of": 32,
        "block_ffn_dim_multiplier": 1.0,
        "block_auto_adjust_ff_dim": False,
        "full_attn_idxs": [1, 3],
        "rope_theta": 10000.0,
    },
}
SYSTEM = [(11 * place) % 500 for place in range(60)]
USERS = [[(7 * number + 5 * place + 3) % 500 for place in range(40)] for number in range(4)]


@cache
def loaded(name: str) -> LoadedModel:
    mx.random.seed(0)
    model_class, arguments = _get_classes(CONFIGS[name])
    model = model_class(arguments.from_dict(CONFIGS[name]))
    model.eval()
    return load_model(model, Settings())


def scheduler(name: str, prefix_bytes: int = 100_000_000) -> Scheduler:
    """One over a tiny model of this type."""
    model = loaded(name)
    model.stage.reset()
    bound = Bound(model.footprint, prefix_bytes)
    prefixes = PrefixIndex([bound], cuttable=model.stage.cuttable) if prefix_bytes else None
    ledger = Ledger([Bound(model.footprint, 1 << 40)])
    return Scheduler(OneRank(model.stage, model.batchable), Limits(8, 8, 32), Pace(1), ledger, prefixes, None)


def sequence(number: int, prompt: list[int], borders: list[int] | None = None) -> Sequence:
    return Sequence.of(Submit(number, prompt, GREEDY, 10, [-1], top_logprobs=0, borders=borders or []))


@dataclass
class Answer:
    tokens: list[int]
    logprobs: Any


def cold(name: str, prompt: list[int]) -> Answer:
    """What follows where nothing is stored, to be compared with: numbers may have been rounded otherwise."""
    _, answer = ask(scheduler(name, prefix_bytes=0), 0, prompt)
    return Answer(answer.tokens, pytest.approx(answer.logprobs, abs=2e-5))


def ask(warm: Scheduler, number: int, prompt: list[int], borders: list[int] | None = None) -> tuple[int, Answer]:
    """Tokens of the prompt that were stored, and the answer."""
    warm.add(sequence(number, prompt, borders))
    log = Log().run(warm)
    answer = Answer(log.tokens[number], [one.logprob for one in log.likelihoods[number]])
    return max(reading.cached for reading in log.reading), answer


@pytest.fixture(params=CONFIGS)
def name(request: pytest.FixtureRequest) -> str:
    assert not loaded(request.param).stage.cuttable
    return str(request.param)


def test_a_prompt_goes_on_from_the_system_prompt_of_another(name: str) -> None:
    warm = scheduler(name)
    found = [ask(warm, number, [*SYSTEM, *user], borders=[len(SYSTEM)]) for number, user in enumerate(USERS)]
    assert [cached for cached, _ in found] == [0, *[len(SYSTEM)] * (len(USERS) - 1)]
    assert [answer for _, answer in found] == [cold(name, [*SYSTEM, *user]) for user in USERS]


def test_the_third_that_begins_alike_finds_what_they_share(name: str) -> None:
    warm = scheduler(name)
    found = [ask(warm, number, [*SYSTEM, *user]) for number, user in enumerate(USERS)]
    assert [cached for cached, _ in found] == [0, 0, len(SYSTEM), len(SYSTEM)]
    assert [answer for _, answer in found] == [cold(name, [*SYSTEM, *user]) for user in USERS]


def test_the_next_turn_reads_only_what_is_new(name: str) -> None:
    warm = scheduler(name)
    _, answer = ask(warm, 0, [*SYSTEM, *USERS[0]])
    prompt = [*SYSTEM, *USERS[0], *answer.tokens, *USERS[1]]
    cached, told = ask(warm, 1, prompt)
    assert cached >= len(SYSTEM) + len(USERS[0])
    assert told == cold(name, prompt)


def test_where_hardly_anything_fits_answers_are_the_same(name: str) -> None:
    footprint = loaded(name).footprint
    tight = scheduler(name, prefix_bytes=footprint.bytes_of(150))
    for number, user in enumerate([*USERS, *USERS]):
        assert ask(tight, number, [*SYSTEM, *user])[1] == cold(name, [*SYSTEM, *user])


def test_what_is_stored_takes_what_the_index_counts(name: str) -> None:
    loaded.cache_clear()  # with what other tests have stored
    model = loaded(name)
    warm = scheduler(name)
    for number, user in enumerate(USERS):
        ask(warm, number, [*SYSTEM, *user], borders=[len(SYSTEM)])
    prefixes = warm._waiting._prefixes
    assert prefixes is not None
    assert prefixes.bytes == [model.stage.segments.nbytes]
