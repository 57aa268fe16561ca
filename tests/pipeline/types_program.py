"""On every rank of a real group: run model types split over all ranks; rank 0 compares the logits bit by bit."""

from __future__ import annotations

import json
import sys

import mlx.core as mx

from mlxserve.config import Place, Settings
from mlxserve.pipeline.composed import compose
from mlxserve.pipeline.control import Worker, accept_invitation, invite
from mlxserve.pipeline.group import form_group, waits_asleep
from mlxserve.pipeline.identity import introduce
from mlxserve.pipeline.link import Link, LoadingNote
from mlxserve.pipeline.loading import load_model
from mlxserve.pipeline.pipeline import ManyRanks
from mlxserve.pipeline.relay import Relay
from mlxserve.pipeline.worker import RelayLoop
from tests.pipeline.comparison import Expected, tiny
from tests.pipeline.group_program import place_of_this_rank

NEXT_MODEL = LoadingNote("next model")


def lead(types: list[str], place: Place, relay: Relay, workers: list[Worker]) -> None:
    for model_type in types:
        loaded = load_model(tiny(model_type)(), Settings(place=place))
        expected = Expected(tiny(model_type))
        pipeline = ManyRanks(loaded.stage, relay, loaded.split, list(workers), expected.batchable)
        differences = expected.differences(pipeline)
        while pipeline.in_flight:
            pipeline.tick([], None)
        for worker in workers:
            worker.send(NEXT_MODEL)
        print(json.dumps({"type": model_type, "differences": differences}), flush=True)
        mx.clear_cache()


def follow(types: list[str], place: Place, relay: Relay, link: Link) -> None:
    for model_type in types:
        loaded = load_model(tiny(model_type)(), Settings(place=place))
        loop = RelayLoop(loaded.stage, relay, place.rank, loaded.split, link)
        while (message := link.receive()) != NEXT_MODEL:
            loop.carry_out(message)
        mx.clear_cache()


def main() -> None:
    place = place_of_this_rank()
    group = form_group(place)
    assert group is not None
    if place.rank == 0:
        workers, _ = invite(group, place)
        for worker in workers:
            worker.start(lambda reason: None)
        lead(sys.argv[1:], place, Relay(group, waits_asleep(place)), workers)
    else:
        link, _ = accept_invitation(group, introduce(place))
        link.start(lambda reason: None)
        compose(compiles=True)
        follow(sys.argv[1:], place, Relay(group, waits_asleep(place)), link)


main()
