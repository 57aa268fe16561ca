"""How an answer reaches its client, whole or streamed: with one line in the log, and an error where it fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.departure import ClientGone, while_connected
from mlxserve.api.errors import INTERNAL, ApiError, from_engine
from mlxserve.api.request_log import CLIENT_GONE, log_answer
from mlxserve.errors import EngineError
from mlxserve.text.generation import Generation

log = logging.getLogger("mlxserve.api")

DONE = b"data: [DONE]\n\n"


async def whole(
    http: Request, name: str, generations: list[Generation], started: float, work: Coroutine[Any, Any, bytes]
) -> Response:
    """What `work` makes of `generations`, as JSON; it ends when the client leaves. `started` by `perf_counter`."""
    status = 500
    try:
        body = await while_connected(http.receive, work)
        status = 200
        return Response(body, media_type="application/json")
    except ClientGone:
        status = CLIENT_GONE
        return Response(status_code=CLIENT_GONE)
    except EngineError as error:
        refused = from_engine(error)
        status = refused.status
        return refused.response()
    finally:
        log_answer(name, status, generations, started)


async def streamed(
    name: str, generations: list[Generation], started: float, events: AsyncGenerator[bytes, None]
) -> AsyncGenerator[bytes, None]:
    """`events` and the last one; or an event that clients raise as an error, since the headers are out."""
    status = 500
    try:
        async with aclosing(events):
            async for event in events:
                yield event
        yield DONE
        status = 200
    except (asyncio.CancelledError, GeneratorExit):
        status = CLIENT_GONE
        raise
    except EngineError as error:
        refused = from_engine(error)
        status = refused.status
        yield b"data: " + refused.body() + b"\n\n"
    except Exception:
        log.exception("%s failed", name)
        yield b"data: " + ApiError(500, INTERNAL).body() + b"\n\n"
    finally:
        log_answer(name, status, generations, started)
