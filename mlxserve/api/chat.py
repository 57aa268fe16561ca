"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.answer import Identity, completion, finish_of, timings_of, usage_of
from mlxserve.api.body import decode, read_body
from mlxserve.api.chunks import ChunkEncoder
from mlxserve.api.client import client_of
from mlxserve.api.delivery import streamed, whole
from mlxserve.api.fields import refuse_unsupported
from mlxserve.api.merge import merged
from mlxserve.api.models import check_model
from mlxserve.api.question import generations
from mlxserve.api.schema import NOTHING, ChatRequest
from mlxserve.api.serving import serving_of
from mlxserve.api.sse import EventStream
from mlxserve.api.traffic.exchange import exchange_of
from mlxserve.text.generation import Generation
from mlxserve.text.pieces import Piece, PromptRead

DECODER = msgspec.json.Decoder(ChatRequest)


async def create_chat_completion(http: Request) -> Response:
    """Everything that can be refused is refused before the first byte; then the answer, streamed or whole."""
    serving, exchange = serving_of(http), exchange_of(http)
    body = await read_body(http, serving.body_limit)
    request = decode(body, DECODER)
    check_model(serving, request.model)
    refuse_unsupported(request, NOTHING)
    answers = await generations(serving, request.question(), len(body), client_of(http))
    identity = Identity(serving.name)
    if request.stream:
        events = _events(identity, answers, request, exchange.started)
        events = streamed(exchange, identity.id, answers, events)
        return EventStream(events, lambda: answers[0].progress, serving.keep_alive)
    body_made = _body(identity, answers, exchange.started, bool(request.logprobs))
    return await whole(http, identity.id, answers, body_made)


async def _body(identity: Identity, answers: list[Generation], started: float, logprobs: bool) -> bytes:
    return completion(identity, await _pieces(answers), answers, started, logprobs)


async def _pieces(answers: list[Generation]) -> list[list[Piece]]:
    """The pieces of each answer."""
    pieces: list[list[Piece]] = [[] for _ in answers]
    async with aclosing(merged([answer.pieces() for answer in answers])) as arriving:
        async for index, piece in arriving:
            if piece is not None:
                pieces[index].append(piece)
    return pieces


async def _events(
    identity: Identity, answers: list[Generation], request: ChatRequest, started: float
) -> AsyncGenerator[bytes, None]:
    include_usage = request.includes_usage
    encoders = [ChunkEncoder(identity, include_usage, index) for index in range(len(answers))]
    async with aclosing(_chunks(encoders, answers, started, bool(request.return_progress))) as chunks:
        async for chunk in chunks:
            yield chunk
    if include_usage:
        yield encoders[0].usage(usage_of(answers))


async def _chunks(
    encoders: list[ChunkEncoder], answers: list[Generation], started: float, tells_progress: bool
) -> AsyncGenerator[bytes, None]:
    """Each answer's role with its first piece, its pieces, its end."""
    unbegun = set(range(len(answers)))
    async with aclosing(merged([answer.told(tells_progress) for answer in answers])) as arriving:
        async for index, piece in arriving:
            event = encoders[index].role() if index in unbegun else b""
            unbegun.discard(index)
            if isinstance(piece, PromptRead):
                yield event + encoders[index].progress(piece)
            elif piece is not None:
                yield event + encoders[index].piece(piece)
            else:
                yield event + encoders[index].finish(finish_of(answers[index]), timings_of(answers[index], started))
