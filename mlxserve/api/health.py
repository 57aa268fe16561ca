"""GET /health: whether the model is served, and by which ranks. GET /livez: whether the node is there."""

from __future__ import annotations

from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.errors import RETRY_AFTER
from mlxserve.api.serving import Serving, serving_of
from mlxserve.config import Parallel
from mlxserve.engine.messages import RankFacts


class RankHealth(msgspec.Struct):
    """One rank; memory in 10^9 bytes, `layers` first and last, `busy` a share from 0 to 1.

    `expected_ms`: what a token takes there by the bytes that are read and the speed that was measured; 0: not known.
    """

    rank: int
    host: str
    pid: int
    device: str
    layers: tuple[int, int]
    expected_ms: float
    memory_gb: float
    peak_memory_gb: float
    tokens_per_second: float
    busy: float


class HealthReport(msgspec.Struct):
    """The body of /health. `since` is Unix time, in seconds; `gpu_memory_gb` is this rank's.

    `batched`: whether the model reads and continues several sequences together; otherwise they run one after another.
    `parallel`: whether each rank has whole layers (pipeline) or a share of every layer (tensor).
    `serving`: whether requests are taken, as they are while ranks are missing (degraded) or come back (recovering).
    """

    status: str
    reason: str
    serving: bool
    since: float
    rank: int
    world_size: int
    model: str
    model_type: str | None
    layers: int | None
    context_length: int | None
    batched: bool | None
    gpu_memory_gb: float
    backend: str | None
    parallel: Parallel | None
    pipeline: str
    distributed: bool
    open_requests: int
    ranks: list[RankHealth]


class Life(msgspec.Struct):
    """The body of /livez."""

    status: Literal["alive"] = "alive"


async def livez(request: Request) -> Response:
    """200 as long as the node answers: for whoever restarts it when it does not."""
    return Response(msgspec.json.encode(Life()), 200, {"Cache-Control": "no-store"}, "application/json")


async def health(request: Request) -> Response:
    """200 when requests are answered, otherwise 503 with the reason."""
    report = _report(serving_of(request))
    healthy = report.status == "healthy"
    headers = {"Cache-Control": "no-store"} | ({} if healthy else RETRY_AFTER)
    return Response(msgspec.json.encode(report), 200 if healthy else 503, headers, "application/json")


def _report(serving: Serving) -> HealthReport:
    known, place = serving.engine.health, serving.settings.place
    ready = known.ready
    status, reason = serving.status()
    ranks = [_rank(facts) for facts in known.ranks]
    return HealthReport(
        status=status,
        reason=reason,
        serving=serving.takes_requests,
        since=serving.engine.draining_since or known.since,
        rank=place.rank,
        world_size=place.world_size,
        model=serving.name,
        model_type=ready.model_type if ready else None,
        layers=ready.layers if ready else None,
        context_length=ready.context_length if ready else None,
        batched=ready.batched if ready else None,
        gpu_memory_gb=next((rank.memory_gb for rank in ranks if rank.rank == place.rank), 0.0),
        backend=ready.backend if ready else None,
        parallel=ready.parallel if ready else None,
        pipeline="allreduce" if place.world_size > 1 else "none",
        distributed=place.world_size > 1,
        open_requests=serving.engine.open_sequences,
        ranks=ranks,
    )


def _rank(facts: RankFacts) -> RankHealth:
    return RankHealth(
        rank=facts.rank,
        host=facts.host,
        pid=facts.pid,
        device=facts.device,
        layers=(facts.first_layer, facts.last_layer),
        expected_ms=round(facts.expected_seconds * 1e3, 3),
        memory_gb=round(facts.memory_bytes / 1e9, 2),
        peak_memory_gb=round(facts.peak_memory_bytes / 1e9, 2),
        tokens_per_second=round(facts.tokens_per_second, 1),
        busy=round(facts.busy, 3),
    )
