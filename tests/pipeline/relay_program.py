"""On every rank: hand bit patterns round the ring and look whether they arrive unchanged."""

from __future__ import annotations

import json
import sys

import mlx.core as mx

from mlxserve.pipeline.group import form_group, waits_asleep
from mlxserve.pipeline.relay import PIECE_WORDS_PER_RANK, Parcel, Relay
from tests.pipeline.group_program import place_of_this_rank

ODD = [0x80000000, 0x7FC00001, 0xFF800000, 0x00000001, 0xFFFFFFFF, 0x7F7FFFFF]
"""-0.0, a NaN with a payload, -inf, the least denormal, all ones, the largest float."""


def messages(rank: int) -> list[mx.array]:
    """What `rank` sends: awkward values in awkward sizes and types."""
    generator = mx.random.key(rank)
    words = PIECE_WORDS_PER_RANK
    noise = mx.random.randint(0, 2**32 - 1, (3 * words + rank,), mx.uint32, key=generator)
    return [
        mx.array([*ODD, rank], mx.uint32).view(mx.float32).reshape(1, 1, 7),
        noise[: 5 * 64].view(mx.float32).reshape(5, 1, 64),
        noise[:21].astype(mx.uint16).view(mx.bfloat16).reshape(1, 3, 7),
        noise[:6].astype(mx.uint16).view(mx.float16).reshape(2, 1, 3),
        noise.view(mx.float32).reshape(1, 1, -1),
    ]


def main() -> None:
    place = place_of_this_rank()
    group = form_group(place)
    assert group is not None
    relay = Relay(group, waits_asleep(place))
    before = (place.rank - 1) % place.world_size
    for index, mine in enumerate(messages(place.rank)):
        mx.eval(mine)
        sent = [messages(rank)[index] for rank in range(place.world_size)]
        parcels = [Parcel(tuple(array.shape), array.dtype) for array in sent]
        received = relay.exchange(list(parcels), mine)
        assert received is not None
        bits = mx.uint32 if mine.dtype.size == 4 else mx.uint16
        same = mx.array_equal(received.view(bits), sent[before].view(bits)).item()
        if place.rank == 0:
            print(json.dumps({"shape": list(mine.shape), "type": str(mine.dtype), "same": same}))
        if not same:
            sys.exit(f"rank {place.rank}: message {index} of {mine.shape} arrived changed")
    only_first = [parcels[0], *[None] * (place.world_size - 1)]
    received = relay.exchange(only_first, mine if place.rank == 0 else None)
    assert (received is not None) == (before == 0)


main()
