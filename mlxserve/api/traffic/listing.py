"""GET /requests: which requests are open, and which were answered lately. POST /requests/{id}/cancel ends one."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.errors import ApiError
from mlxserve.api.serving import serving_of
from mlxserve.api.traffic.account import Account, Past
from mlxserve.api.traffic.exchange import Exchange, State


class OpenRequest(msgspec.Struct, frozen=True):
    """A request that is being answered. `started`: Unix time; tokens of all its answers together."""

    id: str
    endpoint: str
    client: str
    started: float
    state: State
    prompt_tokens: int
    prompt_tokens_read: int
    cached_tokens: int
    completion_tokens: int
    max_tokens: int
    tokens_per_second: float
    prompt: str | UnsetType = UNSET


class Requests(msgspec.Struct, frozen=True):
    """The body of /requests: the open ones, the oldest first, and the last that have ended, the newest first.

    `prompt`, the end of each prompt, is there with `--log-prompts` alone.
    """

    open: list[OpenRequest]
    recent: list[Past]


class Cancelled(msgspec.Struct, frozen=True):
    """The answer to a cancellation."""

    cancelled: bool = True


async def requests(http: Request) -> Response:
    """GET /requests."""
    account = serving_of(http).account
    listed = Requests([_open(exchange, account) for exchange in account.open.values()], list(account.recent))
    return Response(msgspec.json.encode(listed), headers={"Cache-Control": "no-store"}, media_type="application/json")


async def cancel(http: Request) -> Response:
    """POST /requests/{id}/cancel: its place is free at once, and its client is told."""
    number = http.path_params["id"]
    exchange = serving_of(http).account.open.get(number)
    if exchange is None:
        raise ApiError(404, f"No open request has the id {number[:64]!r}.", param="id", code="request_not_found")
    exchange.cancel()
    return Response(msgspec.json.encode(Cancelled()), media_type="application/json")


def _open(exchange: Exchange, account: Account) -> OpenRequest:
    return OpenRequest(
        exchange.id,
        exchange.endpoint,
        exchange.client,
        round(exchange.arrived, 3),
        exchange.state,
        exchange.prompt_tokens,
        exchange.prompt_tokens_read,
        exchange.cached_tokens,
        exchange.completion_tokens,
        exchange.max_tokens,
        round(exchange.tokens_per_second, 1),
        account.prompt_of(exchange),
    )
