"""How an answer reaches its client, whole or streamed: with one line in the log, and an error where it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.departure import ClientGone, while_connected
from mlxserve.api.errors import INTERNAL, ApiError, answer_of, from_engine
from mlxserve.api.traffic.exchange import CLIENT_GONE, Exchange, exchange_of
from mlxserve.errors import EngineError
from mlxserve.text.generation import Generation

log = logging.getLogger("mlxserve.api")

DONE = b"data: [DONE]\n\n"


async def whole(http: Request, name: str, generations: list[Generation], work: Coroutine[Any, Any, bytes]) -> Response:
    """What `work` makes of `generations`, as JSON, the answer with the id `name`; it ends when the client leaves."""
    exchange, status, reason = exchange_of(http), 500, ""
    exchange.admit(name, generations)
    try:
        body = await while_connected(http.receive, work)
        status = 200
        return Response(body, media_type="application/json")
    except ClientGone:
        status = CLIENT_GONE
        return Response(status_code=CLIENT_GONE)
    except EngineError as error:
        refused = from_engine(error)
        status, reason = refused.status, refused.detail.message
        return answer_of(http.scope["path"], refused)
    except Exception:
        reason = INTERNAL
        raise
    finally:
        exchange.end(status, reason)


def data(error: ApiError) -> bytes:
    """`error` as an event of OpenAI's older APIs."""
    return b"data: " + error.body() + b"\n\n"


async def streamed(
    exchange: Exchange,
    name: str,
    generations: list[Generation],
    events: AsyncGenerator[bytes, None],
    failed: Callable[[ApiError], bytes] = data,
    last: bytes = DONE,
) -> AsyncGenerator[bytes, None]:
    """`events` and the `last` one; or what `failed` makes of an error, for the client to raise: the headers are out."""
    status, reason = 500, ""
    exchange.admit(name, generations)
    try:
        async with aclosing(events):
            async for event in events:
                yield event
        if last:
            yield last
        status = 200
    except (asyncio.CancelledError, GeneratorExit):
        status = CLIENT_GONE
        raise
    except EngineError as error:
        refused = from_engine(error)
        status, reason = refused.status, refused.detail.message
        yield failed(refused)
    except Exception:
        reason = INTERNAL
        log.exception("%s failed", exchange.id)
        yield failed(ApiError(500, INTERNAL))
    finally:
        exchange.end(status, reason)
