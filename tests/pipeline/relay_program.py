"""On every rank: hand bit patterns round the ring, by each collective, and look whether they arrive unchanged."""

from __future__ import annotations

import json
import sys
from typing import get_args

import mlx.core as mx

from mlxserve.config import Place
from mlxserve.pipeline.collective import PIECE_WORDS_PER_RANK, Way
from mlxserve.pipeline.group import form_group, waits_asleep
from mlxserve.pipeline.relay import Parcel, Relay
from tests.pipeline.group_program import place_of_this_rank

ODD = [0x80000000, 0x7FC00001, 0xFF800000, 0x00000001, 0xFFFFFFFF, 0x7F7FFFFF]
"""-0.0, a NaN with a payload, -inf, the least denormal, all ones, the largest float."""


def messages(rank: int) -> list[mx.array]:
    """What `rank` sends: awkward values in awkward sizes and types."""
    generator = mx.random.key(rank)
    words = PIECE_WORDS_PER_RANK
    noise = mx.random.randint(0, 2**32 - 1, (5 * words + rank,), mx.uint32, key=generator)
    return [
        mx.array([*ODD, rank], mx.uint32).view(mx.float32).reshape(1, 1, 7),
        noise[: 5 * 64].view(mx.float32).reshape(5, 1, 64),
        noise[:21].astype(mx.uint16).view(mx.bfloat16).reshape(1, 3, 7),
        noise[:6].astype(mx.uint16).view(mx.float16).reshape(2, 1, 3),
        noise.view(mx.float32).reshape(1, 1, -1),
        noise[: 2 * words].view(mx.float32).reshape(1, 2, -1),
        noise[: (rank + 1) * words + 2 * rank].view(mx.float32).reshape(1, 1, -1),
        noise[: 4 * words + 10 if rank == 0 else 6].view(mx.float32).reshape(1, 1, -1),
    ]


def check(relay: Relay, place: Place, index: int, way: Way, givers: list[int]) -> None:
    """Exchange message `index` of the ranks `givers`, and report."""
    before = (place.rank - 1) % place.world_size
    sent = [messages(rank)[index] for rank in range(place.world_size)]
    mx.eval(sent)
    parcels = [[Parcel(tuple(one.shape), one.dtype)] if rank in givers else [] for rank, one in enumerate(sent)]
    received = relay.exchange(parcels, [sent[place.rank]] if place.rank in givers else [], way)
    same = len(received) == (before in givers)
    for array in received:
        bits = mx.uint32 if array.dtype.size == 4 else mx.uint16
        same = same and bool(mx.array_equal(array.view(bits), sent[before].view(bits)).item())
    if place.rank == 0:
        print(json.dumps({"index": index, "way": way, "givers": givers, "same": same}))
    if not same:
        sys.exit(f"rank {place.rank}: message {index} of ranks {givers} arrived changed by {way}")


def main() -> None:
    place = place_of_this_rank()
    group = form_group(place)
    assert group is not None
    relay = Relay(group, waits_asleep(place))
    everybody = list(range(place.world_size))
    for way in get_args(Way):
        for index in range(len(messages(0))):
            for givers in (everybody, [0], [place.world_size - 1]):
                check(relay, place, index, way, givers)


main()
