"""POST /v1/messages and POST /v1/messages/count_tokens."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.anthropic.answer import beginning_of, message_id, message_of
from mlxserve.api.anthropic.errors import error_body, request_id
from mlxserve.api.anthropic.events import PING, EventEncoder, named
from mlxserve.api.anthropic.request import CountRequest, MessageRequest
from mlxserve.api.body import decode, read_body
from mlxserve.api.departure import ClientGone, while_connected
from mlxserve.api.errors import INTERNAL, ApiError, answer_of, from_engine
from mlxserve.api.models import check_model
from mlxserve.api.question import PromptTooLong, asked, generations
from mlxserve.api.request_log import CLIENT_GONE, log_answer
from mlxserve.api.serving import serving_of
from mlxserve.api.sse import EventStream
from mlxserve.errors import EngineError
from mlxserve.text.generation import Generation
from mlxserve.text.pieces import Piece, ToolCall

log = logging.getLogger("mlxserve.api")

DECODER = msgspec.json.Decoder(MessageRequest)
COUNT_DECODER = msgspec.json.Decoder(CountRequest)


class Reply(msgspec.Struct):
    """An answer under way."""

    model: str
    generation: Generation
    one_call: bool
    started: float
    """By `time.perf_counter`."""
    id: str = msgspec.field(default_factory=message_id)
    request_id: str = msgspec.field(default_factory=request_id)
    status: int = 500

    def log(self) -> None:
        """Say how it ended."""
        log_answer(self.id, self.status, [self.generation], self.started)


async def create_message(http: Request) -> Response:
    """Everything that can be refused is refused before the first byte; then the answer, streamed or whole."""
    serving, started = serving_of(http), time.perf_counter()
    body = await read_body(http, serving.body_limit)
    request = decode(body, DECODER)
    check_model(serving, request.model)
    try:
        [generation] = await generations(serving, request.question(), len(body))
    except PromptTooLong as error:
        raise _too_long(error) from None
    reply = Reply(serving.name, generation, request.one_call, started)
    if request.stream:
        answer: Response = EventStream(_events(reply), lambda: _progress(generation), serving.keep_alive, PING)
    else:
        answer = await _whole(http, reply)
    answer.headers["request-id"] = reply.request_id
    return answer


async def count_tokens(http: Request) -> Response:
    """How long the prompt of the same request to /v1/messages would be; it may be longer than the context."""
    serving = serving_of(http)
    body = await read_body(http, serving.body_limit)
    request = decode(body, COUNT_DECODER)
    check_model(serving, request.model)
    try:
        task = await asked(serving, request.question(), len(body))
    except PromptTooLong as error:
        raise _too_long(error) from None
    count = msgspec.json.encode({"input_tokens": len(task.prompt)})
    return Response(count, headers={"request-id": request_id()}, media_type="application/json")


async def _whole(http: Request, reply: Reply) -> Response:
    try:
        pieces = await while_connected(http.receive, _all(reply))
        reply.status = 200
        message = message_of(reply.id, reply.model, reply.generation, pieces)
        return Response(msgspec.json.encode(message), media_type="application/json")
    except ClientGone:
        reply.status = CLIENT_GONE
        return Response(status_code=CLIENT_GONE)
    except EngineError as error:
        refused = from_engine(error)
        reply.status = refused.status
        return answer_of(http.scope["path"], refused)
    finally:
        reply.log()


async def _events(reply: Reply) -> AsyncGenerator[bytes, None]:
    """The stream's events. An error ends it with an event that clients raise, since the headers are out."""
    encoder = EventEncoder()
    try:
        yield encoder.begin(beginning_of(reply.id, reply.model, reply.generation))
        async with aclosing(_pieces(reply)) as pieces:
            async for piece in pieces:
                yield encoder.piece(piece)
        yield encoder.end(reply.generation)
        reply.status = 200
    except (asyncio.CancelledError, GeneratorExit):
        reply.status = CLIENT_GONE
        raise
    except EngineError as error:
        refused = from_engine(error)
        reply.status = refused.status
        yield named("error", error_body(refused.status, refused.detail.message, reply.request_id))
    except Exception:
        log.exception("%s failed", reply.id)
        yield named("error", error_body(500, INTERNAL, reply.request_id))
    finally:
        reply.log()


async def _all(reply: Reply) -> list[Piece]:
    async with aclosing(_pieces(reply)) as pieces:
        return [piece async for piece in pieces]


async def _pieces(reply: Reply) -> AsyncGenerator[Piece, None]:
    """The answer's pieces, up to the first call where there must not be another."""
    async with aclosing(reply.generation.pieces()) as pieces:
        async for piece in pieces:
            yield piece
            if reply.one_call and isinstance(piece, ToolCall):
                return


def _too_long(error: PromptTooLong) -> ApiError:
    """In Anthropic's words, by which clients know that they must shorten the conversation."""
    message = f"prompt is too long: {error.tokens} tokens > {error.most} maximum"
    return ApiError(400, message, param="messages", code="context_length_exceeded")


def _progress(generation: Generation) -> str:
    return f"{generation.prompt_tokens_read} of {len(generation.prompt)} prompt tokens read"
