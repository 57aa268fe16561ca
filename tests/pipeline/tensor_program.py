"""On every rank: run models tensor parallel; on rank 0 compare with one rank, and with what the last rank computes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import msgspec
from mlx_lm.utils import _get_classes

from mlxserve.config import Place, Settings
from mlxserve.errors import UserError
from mlxserve.pipeline.control import Worker, accept_invitation, invite
from mlxserve.pipeline.group import form_group, waits_asleep
from mlxserve.pipeline.identity import introduce
from mlxserve.pipeline.link import Link, LoadingNote
from mlxserve.pipeline.loading import LoadedModel, load_model
from mlxserve.pipeline.pipeline import OneRank, Pipeline, Work
from mlxserve.pipeline.plan import CacheOperation, Drop, Join, Keep, Open, Plan, Span, Store, Trim
from mlxserve.pipeline.relay import Parcel, Relay
from mlxserve.pipeline.tensor_ranks import TensorLoop, TensorPart, TensorRanks
from mlxserve.pipeline.tensor_sums import TensorSums
from tests.pipeline.group_program import place_of_this_rank
from tests.pipeline.one_rank import VOCABULARY, close

COMPARE, NEXT_MODEL = LoadingNote("compare logits"), LoadingNote("next model")
LONG = 1100
"""Tokens of a prompt whose hidden states take several pieces to add up."""


class Case(msgspec.Struct):
    """A tiny random model."""

    config: dict[str, Any]
    bits: int = 0
    """Of its weights, where they are quantized."""
    kv_bits: int = 0

    def build(self) -> nn.Module:
        """With the same weights each time."""
        mx.random.seed(0)
        model_class, arguments = _get_classes(self.config)
        model: nn.Module = model_class(arguments.from_dict(self.config))
        model.eval()
        if self.bits:
            nn.quantize(model, group_size=32, bits=self.bits)
        return model


class Remembering(TensorPart):
    """Computes the logits on every rank, and keeps the last."""

    def advance(self, plan: Plan) -> mx.array | None:
        """See TensorPart."""
        logits = super().advance(plan)
        if logits is not None:
            self.last = logits
            mx.eval(logits)
        return logits


def prompt(rows: int, length: int, seed: int) -> mx.array:
    return mx.random.randint(0, VOCABULARY, (rows, length), key=mx.random.key(seed))


def steps(batchable: bool, cuttable: bool) -> Iterator[tuple[list[CacheOperation], Work]]:
    """A long prompt in two pieces and what follows; where the model can, also a batch and forgetting."""
    yield [Open(1, 1)], Work(1, prompt(1, LONG, 1), [], "none")
    yield [], Work(1, prompt(1, 9, 2), [], "all")
    yield [Store(1, 0, 0, LONG + 9, "prefix")], Work(1, prompt(1, 1, 3), [], "last")
    yield [Open(2, 1, [[Span("prefix", LONG + 9)]])], Work(2, prompt(1, 4, 4), [], "last")
    if batchable:
        yield [Open(3, 2)], Work(3, prompt(2, 5, 5), [3, 5], "last")
        yield [Join(1, 3)], Work(1, prompt(3, 1, 6), [], "last")
        yield [Keep(1, [0, 2])], Work(1, prompt(2, 1, 7), [], "last")
    if cuttable:
        yield [Trim(2, [2])], Work(2, prompt(1, 2, 8), [], "last")
    yield [Keep(1, []), Drop("prefix")], Work(2, prompt(1, 1, 9), [], "last")


def logits_of(pipeline: Pipeline, model: LoadedModel) -> Iterator[mx.array]:
    for operations, work in steps(model.batchable, model.stage.cuttable):
        logits = pipeline.tick(operations, work)
        if logits is not None:
            yield logits


def of_the_rank_before(relay: Relay, logits: mx.array, ranks: int) -> mx.array:
    """What that rank has in place of `logits`."""
    mx.eval(logits)
    (theirs,) = relay.exchange([[Parcel(tuple(logits.shape), logits.dtype)]] * ranks, [logits])
    return theirs


def lead(case: Case, loaded: LoadedModel, sums: TensorSums, links: list[Worker], relay: Relay) -> None:
    """Compare each step's logits with one rank's and with another rank's, and print how they compare."""
    whole = load_model(case.build(), Settings(kv_bits=case.kv_bits))
    ranks = TensorRanks(Remembering(loaded.stage, sums), sums, list(links), loaded.batchable)
    alone = OneRank(whole.stage, whole.batchable)
    equal, like_one_rank = [], []
    for logits, expected in zip(logits_of(ranks, loaded), logits_of(alone, whole), strict=True):
        for link in links:
            link.send(COMPARE)
        theirs = of_the_rank_before(relay, logits, len(links) + 1)
        equal.append(bool(mx.array_equal(theirs.view(mx.uint32), logits.view(mx.uint32)).item()))
        like_one_rank.append(close(logits, expected))
    for link in links:
        link.send(NEXT_MODEL)
    report = {
        "refusal": "",
        "equal on all ranks": all(equal),
        "like one rank's": all(like_one_rank),
        "caches": loaded.footprint.bytes_of(LONG) / whole.footprint.bytes_of(LONG),
        "batchable": loaded.batchable == whole.batchable,
    }
    print(json.dumps(report), flush=True)


def follow(part: Remembering, link: Link, relay: Relay, place: Place) -> None:
    """Do what rank 0 says until it goes on to the next model."""
    loop = TensorLoop(part)
    while (message := link.receive()) != NEXT_MODEL:
        if message == COMPARE:
            of_the_rank_before(relay, part.last, place.world_size)
        else:
            loop.carry_out(message)


def main() -> None:
    place = place_of_this_rank()
    group = form_group(place)
    assert group is not None
    links: Any = invite(group, place)[0] if place.rank == 0 else [accept_invitation(group, introduce(place))[0]]
    for link in links:
        link.start(lambda reason: None)
    relay = Relay(group, waits_asleep(place))
    for argument in sys.argv[1:]:
        case = msgspec.json.decode(argument, type=Case)
        try:
            loaded = load_model(case.build(), Settings(place, parallel="tensor", kv_bits=case.kv_bits), sharing=group)
        except UserError as error:
            print(json.dumps({"refusal": str(error)}), flush=True)
            continue
        sums = TensorSums(group)
        if place.rank == 0:
            lead(case, loaded, sums, links, relay)
        else:
            follow(Remembering(loaded.stage, sums), links[0], relay, place)


main()
