"""On every rank: run each model type split over all ranks; on rank 0 also whole, and compare the logits bit by bit."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import _get_classes

from mlxserve.config import Place, Settings
from mlxserve.errors import UserError
from mlxserve.pipeline.control import Worker, accept_invitation, invite
from mlxserve.pipeline.group import form_group, waits_asleep
from mlxserve.pipeline.identity import introduce
from mlxserve.pipeline.link import Link, LoadingNote
from mlxserve.pipeline.loading import LoadedModel, load_model
from mlxserve.pipeline.pipeline import ManyRanks, OneRank, Pipeline, Work
from mlxserve.pipeline.plan import CacheOperation, Drop, Join, Keep, Open, Span, Store
from mlxserve.pipeline.relay import Relay
from mlxserve.pipeline.worker import RelayLoop
from tests.pipeline.group_program import place_of_this_rank

CONFIGS = Path(__file__).with_name("model-configs.json")
NEXT_MODEL = LoadingNote("next model")
DECODE_STEPS = 3


def build(config: dict[str, Any]) -> nn.Module:
    """The same random weights on every rank."""
    mx.random.seed(0)
    model_class, arguments = _get_classes(config)
    model = model_class(arguments.from_dict(config))
    model.eval()
    return model


def tokens(rows: int, length: int, seed: int) -> mx.array:
    return mx.random.randint(5, 49_000, (rows, length), key=mx.random.key(seed))


def run(pipeline: Pipeline, operations: list[CacheOperation], work: Work) -> mx.array:
    logits = pipeline.tick(operations, work)
    while logits is None:
        logits = pipeline.tick([], None)
    mx.eval(logits)
    return logits


def alone(pipeline: Pipeline, length: int) -> list[mx.array]:
    """Logits of a prompt of `length` tokens and of some decode steps."""
    results = [run(pipeline, [Open(1, 1)], Work(1, tokens(1, length, 7), [], "all"))]
    for step in range(DECODE_STEPS):
        results.append(run(pipeline, [], Work(1, tokens(1, 1, step), [], "last")))
    pipeline.tick([Keep(1, [])], None)
    return results


def by_mlx_lm(model: nn.Module, length: int) -> list[mx.array]:
    """The same from mlx-lm's own model, with its own caches for one prompt."""
    caches = make_prompt_cache(model)
    inputs = [tokens(1, length, 7), *(tokens(1, 1, step) for step in range(DECODE_STEPS))]
    results = []
    for step in inputs:
        results.append(model(step, cache=caches))
        mx.eval(results[-1])
    return results


def batched(pipeline: Pipeline) -> list[mx.array]:
    """Logits of rows that are read together, joined by another, decoded, left by one, and decoded again."""
    lengths = [3, 7, 5]
    rows = tokens(3, 7, 1)
    results = [run(pipeline, [Open(1, 3)], Work(1, rows, lengths, "last"))]
    results.append(run(pipeline, [Open(2, 1)], Work(2, tokens(1, 12, 2), [], "last")))
    results.append(run(pipeline, [Join(1, 2)], Work(1, tokens(4, 1, 3), [], "last")))
    results.append(run(pipeline, [], Work(1, tokens(4, 1, 4), [], "last")))
    results.append(run(pipeline, [Keep(1, [0, 2, 3])], Work(1, tokens(3, 1, 5), [], "last")))
    pipeline.tick([Keep(1, [])], None)
    return results


def reused(pipeline: Pipeline) -> list[mx.array]:
    """Logits of a prompt that is stored in two segments, then of others that begin with them."""
    prompt = tokens(1, 40, 8)
    results = [run(pipeline, [Open(1, 1)], Work(1, prompt[:, :24], [], "last"))]
    results.append(run(pipeline, [Store(1, 0, 0, 24, "first")], Work(1, prompt[:, 24:30], [], "last")))
    pipeline.tick([Store(1, 0, 24, 30, "second"), Keep(1, [])], None)
    spans = [Span("first", 24), Span("second", 6)]
    results.append(run(pipeline, [Open(2, 1, [spans])], Work(2, prompt[:, 30:], [], "last")))
    results.append(run(pipeline, [], Work(2, tokens(1, 1, 9), [], "last")))
    pipeline.tick([Keep(2, []), Drop("first"), Drop("second")], None)
    return results


def equal(expected: list[mx.array], actual: list[mx.array]) -> bool:
    return all(mx.array_equal(one, other, equal_nan=True).item() for one, other in zip(expected, actual, strict=True))


def load(entry: dict[str, Any], place: Place) -> tuple[LoadedModel | None, str]:
    try:
        return load_model(build(entry["config"]), Settings(place=place)), ""
    except UserError as error:
        return None, str(error)


def lead(entries: list[dict[str, Any]], place: Place, relay: Relay, workers: list[Worker]) -> None:
    for entry in entries:
        loaded, refusal = load(entry, place)
        report: dict[str, Any] = {"type": entry["model_type"], "refusal": refusal}
        if loaded:
            pipeline = ManyRanks(loaded.stage, relay, loaded.split, list(workers), loaded.batchable)
            original = build(entry["config"])
            report |= {f"alone {n}": equal(by_mlx_lm(original, n), alone(pipeline, n)) for n in (1, 7, 700)}
            whole = load_model(build(entry["config"]), Settings())
            report["reused"] = equal(reused(OneRank(whole.stage, whole.batchable)), reused(pipeline))
            if loaded.batchable:
                report["batched"] = equal(batched(OneRank(whole.stage, True)), batched(pipeline))
            while pipeline.in_flight:
                pipeline.tick([], None)
        for worker in workers:
            worker.send(NEXT_MODEL)
        print(json.dumps(report), flush=True)
        mx.clear_cache()


def follow(entries: list[dict[str, Any]], place: Place, relay: Relay, link: Link) -> None:
    for entry in entries:
        loaded, _ = load(entry, place)
        loop = RelayLoop(loaded.stage, relay, place.rank, loaded.split, link) if loaded else None
        while (message := link.receive()) != NEXT_MODEL:
            assert loop is not None
            loop.carry_out(message)
        mx.clear_cache()


def main() -> None:
    place = place_of_this_rank()
    group = form_group(place)
    assert group is not None
    entries = [entry for entry in json.loads(CONFIGS.read_text()) if entry.get("needs") != "metal"]
    if chosen := sys.argv[1:]:
        entries = [entry for entry in entries if entry["model_type"] in chosen]
    if place.rank == 0:
        workers, _ = invite(group, place)
        for worker in workers:
            worker.start(lambda reason: None)
        lead(entries, place, Relay(group, waits_asleep(place)), workers)
    else:
        link, _ = accept_invitation(group, introduce(place))
        link.start(lambda reason: None)
        follow(entries, place, Relay(group, waits_asleep(place)), link)


main()
