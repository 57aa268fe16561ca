"""`mlxserve check` as the engine processes run it: do all ranks compute, is the relay exact, how long does it take?"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any, get_args

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.utils import _get_classes

from mlxserve.engine.messages import RankFacts
from mlxserve.engine.parallel import Choice
from mlxserve.errors import CheckFailed
from mlxserve.pipeline.collective import Way
from mlxserve.pipeline.pipeline import Pipeline, Work
from mlxserve.pipeline.plan import Keep, Open
from mlxserve.pipeline.selftest import SIZES, RelayFindings, shown

_LAYERS_PER_RANK = 4
_PASSES = 20
_EMPTY_TICKS = 100
_BATCH = 1
_GIGABYTE = 1e9


def random_model(world_size: int) -> tuple[nn.Module, dict[str, Any]]:
    """A small model with the same random weights on every rank, and its config."""
    config: dict[str, Any] = {
        "model_type": "qwen2",
        "hidden_size": 256,
        "num_hidden_layers": _LAYERS_PER_RANK * max(2, world_size),
        "intermediate_size": 1024,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-6,
        "vocab_size": 4096,
        "tie_word_embeddings": True,
    }
    mx.random.seed(0)
    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    model.eval()
    return model, config


@dataclass(frozen=True)
class PassTimes:
    """Median seconds."""

    token: float
    """One token's pass through all layers and back."""
    tick: float
    """A tick in which nothing is computed or carried: the plan, and what Python does."""


def time_passes(pipeline: Pipeline) -> PassTimes:
    """Time tokens' passes through all ranks, and empty ticks."""
    seconds = []
    logits = _pass(pipeline, [Open(_BATCH, 1)], mx.array([[1]]))
    for _ in range(_PASSES):
        start = time.perf_counter()
        logits = _pass(pipeline, [], mx.argmax(logits[:, -1:], axis=-1))
        seconds.append(time.perf_counter() - start)
    pipeline.tick([Keep(_BATCH, [])], None)
    return PassTimes(statistics.median(seconds), statistics.median(_empty_ticks(pipeline)))


def _empty_ticks(pipeline: Pipeline) -> list[float]:
    seconds = []
    for _ in range(_EMPTY_TICKS):
        start = time.perf_counter()
        pipeline.tick([], None)
        seconds.append(time.perf_counter() - start)
    return seconds


def _pass(pipeline: Pipeline, operations: list[Any], tokens: mx.array) -> mx.array:
    logits = pipeline.tick(operations, Work(_BATCH, tokens, [], "last"))
    while logits is None:
        logits = pipeline.tick([], None)
    mx.eval(logits)
    return logits


def report_lines(
    ranks: list[RankFacts], tokens: list[int], findings: list[RelayFindings], choice: Choice, times: PassTimes
) -> list[str]:
    """The check's lines for people. Raises CheckFailed with the line that failed."""
    lines = []
    for facts, count in zip(ranks, tokens, strict=True):
        if count == 0:
            raise CheckFailed(f"rank {facts.rank} ({facts.host}) has not computed")
        lines.append(
            f"ok  rank {facts.rank}  {facts.host}  {facts.device}  layers {facts.first_layer}-{facts.last_layer}  "
            f"{facts.memory_bytes / _GIGABYTE:.2f} GB  {count} tokens computed"
        )
    if all(facts.expected_seconds for facts in ranks):
        lines.append(_split_line(ranks))
    if findings:
        lines += _relay_lines(findings)
        lines.append(f"ok  parallel  {choice.mode}: {choice.reason}")
        lines.append(f"ok  a tick besides computing and carrying: {times.tick * 1e3:.3f} ms")
    lines.append(f"ok  one token through all layers: {times.token * 1e3:.2f} ms")
    return lines


def _split_line(ranks: list[RankFacts]) -> str:
    """What the split costs, by the bytes that are read and the speeds that were measured."""
    layers = " + ".join(str(facts.last_layer - facts.first_layer + 1) for facts in ranks)
    seconds = [facts.expected_seconds for facts in ranks]
    each = " + ".join(f"{time * 1e3:.2f}" for time in seconds)
    return f"ok  split  {layers} layers: a token is expected to take {each} = {sum(seconds) * 1e3:.2f} ms to compute"


def _relay_lines(findings: list[RelayFindings]) -> list[str]:
    """What the ranks found, by size and collective, all of it exact."""
    lines = [f"ok  relay  exact to the bit on {len(findings)} ranks"]
    for size in SIZES:
        slowest = {way: max(finding.seconds[way][size] for finding in findings) for way in get_args(Way)}
        seconds = ", ".join(f"{way} {seconds * 1e3:.3f} ms" for way, seconds in slowest.items())
        lines.append(f"ok  relay  {shown(size)} a rank: {seconds}, {size / min(slowest.values()) / 1e6:.1f} MB/s")
    return lines
