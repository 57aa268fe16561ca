"""GET /traffic: what the server does now, and what it did lately."""

from __future__ import annotations

import time

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.serving import Serving, serving_of
from mlxserve.api.traffic.account import Totals
from mlxserve.api.traffic.history import Series
from mlxserve.api.traffic.ranks import RankTraffic, ranks_of


class Standing(msgspec.Struct, frozen=True):
    """As /health has it; `since` is Unix time."""

    status: str
    reason: str
    since: float


class Flow(msgspec.Struct, frozen=True):
    """What entered the pipeline in about the last second."""

    chunks: int
    """Chunks of prompts…"""
    chunk_tokens: int
    """…and their tokens."""
    decode_steps: int
    decode_rows: int
    """Answers that went on, in all those steps together."""


class Traffic(msgspec.Struct, frozen=True):
    """The body of /traffic. `now` is Unix time, `layers` the number of all the model's layers, 0 until it is known."""

    now: float
    status: Standing
    minutes: Series
    totals: Totals
    running: int
    waiting: int
    ranks: list[RankTraffic]
    layers: int
    flow: Flow
    day: Series | UnsetType = UNSET


async def traffic(http: Request) -> Response:
    """GET /traffic, with `?day=0` without the day's plot."""
    wants_day = http.query_params.get("day", "1").lower() not in ("0", "false")
    body = msgspec.json.encode(_traffic(serving_of(http), wants_day))
    return Response(body, headers={"Cache-Control": "no-store"}, media_type="application/json")


def _traffic(serving: Serving, wants_day: bool) -> Traffic:
    account, engine = serving.account, serving.engine
    status, reason = serving.status()
    flow, ready = engine.work.lately, engine.health.ready
    return Traffic(
        now=round(time.time(), 3),
        status=Standing(status, reason, engine.draining_since or engine.health.since),
        minutes=account.history.minutes(),
        totals=account.totals(),
        running=account.running,
        waiting=account.waiting,
        ranks=ranks_of(engine, serving.settings.place),
        layers=ready.layers if ready else 0,
        flow=Flow(flow.chunks, flow.chunk_tokens, flow.decode_steps, flow.decode_rows),
        day=account.history.day() if wants_day else UNSET,
    )
