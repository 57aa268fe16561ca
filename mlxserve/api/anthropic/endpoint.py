"""POST /v1/messages and POST /v1/messages/count_tokens."""

from __future__ import annotations

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
from mlxserve.api.client import client_of
from mlxserve.api.delivery import streamed, whole
from mlxserve.api.errors import ApiError
from mlxserve.api.models import check_model
from mlxserve.api.question import PromptTooLong, asked, generations
from mlxserve.api.serving import serving_of
from mlxserve.api.sse import EventStream
from mlxserve.api.traffic.exchange import exchange_of
from mlxserve.text.generation import Generation
from mlxserve.text.pieces import Piece, ToolCall

DECODER = msgspec.json.Decoder(MessageRequest)
COUNT_DECODER = msgspec.json.Decoder(CountRequest)


class Reply(msgspec.Struct):
    """An answer under way."""

    model: str
    generation: Generation
    one_call: bool
    id: str = msgspec.field(default_factory=message_id)
    request_id: str = msgspec.field(default_factory=request_id)

    def failed(self, error: ApiError) -> bytes:
        """`error` as a stream's last event."""
        return named("error", error_body(error.status, error.detail.message, self.request_id))


async def create_message(http: Request) -> Response:
    """Everything that can be refused is refused before the first byte; then the answer, streamed or whole."""
    serving = serving_of(http)
    body = await read_body(http, serving.body_limit)
    request = decode(body, DECODER)
    check_model(serving, request.model)
    try:
        [generation] = await generations(serving, request.question(), len(body), client_of(http))
    except PromptTooLong as error:
        raise _too_long(error) from None
    reply = Reply(serving.name, generation, request.one_call)
    if request.stream:
        events = streamed(exchange_of(http), reply.id, [generation], _events(reply), reply.failed, last=b"")
        answer: Response = EventStream(events, lambda: generation.progress, serving.keep_alive, PING)
    else:
        answer = await whole(http, reply.id, [generation], _body(reply))
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


async def _body(reply: Reply) -> bytes:
    async with aclosing(_pieces(reply)) as pieces:
        return msgspec.json.encode(
            message_of(reply.id, reply.model, reply.generation, [piece async for piece in pieces])
        )


async def _events(reply: Reply) -> AsyncGenerator[bytes, None]:
    encoder = EventEncoder()
    yield encoder.begin(beginning_of(reply.id, reply.model, reply.generation))
    async with aclosing(_pieces(reply)) as pieces:
        async for piece in pieces:
            yield encoder.piece(piece)
    yield encoder.end(reply.generation)


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
