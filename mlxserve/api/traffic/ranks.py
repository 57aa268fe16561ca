"""The ranks as /traffic and /metrics show them: all that were planned, with what is known of each."""

from __future__ import annotations

import msgspec

from mlxserve.config import Place
from mlxserve.engine.client import EVERYBODY, EngineClient
from mlxserve.engine.messages import MemoryFacts, RankFacts


class LinkTraffic(msgspec.Struct, frozen=True):
    """What a rank gives to the next. `latency`: seconds of the quickest exchange of all ranks lately."""

    to: int | None
    latency: float | None
    bytes_per_second: float


class RankTraffic(msgspec.Struct, frozen=True):
    """One rank. `layers`: the first and the last, the last before the first while they are not known.

    `expected_seconds`: what a token takes there by the bytes that are read and the speed that was measured.
    """

    rank: int
    host: str
    device: str
    pid: int
    layers: tuple[int, int]
    expected_seconds: float | None
    memory: MemoryFacts
    busy: float
    tokens_per_second: float
    link: LinkTraffic
    progress: str
    """What it does until it serves."""


def ranks_of(engine: EngineClient, place: Place) -> list[RankTraffic]:
    """All of them, those that are missing too."""
    met = {facts.rank: facts for facts in engine.met}
    return [_rank(met.get(rank) or _unknown(rank, place), _progress(rank, engine)) for rank in range(place.world_size)]


def _progress(rank: int, engine: EngineClient) -> str:
    if engine.serves:
        return "" if any(facts.rank == rank for facts in engine.met) else "missing"
    return engine.notes.get(rank) or engine.notes.get(EVERYBODY) or "waiting"


def _unknown(rank: int, place: Place) -> RankFacts:
    address = place.addresses[rank] if rank < len(place.addresses) else ""
    return RankFacts(rank, address.rpartition(":")[0], 0, "", 0, -1, 0)


def _rank(facts: RankFacts, progress: str) -> RankTraffic:
    link = facts.link
    return RankTraffic(
        facts.rank,
        facts.host,
        facts.device,
        facts.pid,
        (facts.first_layer, facts.last_layer),
        facts.expected_seconds or None,
        facts.memory,
        facts.busy,
        facts.tokens_per_second,
        LinkTraffic(None if link.to < 0 else link.to, link.seconds or None, link.bytes_per_second),
        progress,
    )
