"""POST /v1/chat/completions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mlxserve.api.answer import Identity, completion, usage_of
from mlxserve.api.body import decode, read_body
from mlxserve.api.chunks import DONE, ChunkEncoder
from mlxserve.api.departure import ClientGone, while_connected
from mlxserve.api.errors import INTERNAL, ApiError, from_engine
from mlxserve.api.messages import for_template
from mlxserve.api.models import check_model
from mlxserve.api.request_log import CLIENT_GONE, log_answer
from mlxserve.api.schema import ChatRequest, refuse_unsupported
from mlxserve.api.serving import Serving, serving_of
from mlxserve.api.sse import EventStream
from mlxserve.engine.messages import Ready
from mlxserve.errors import EngineError
from mlxserve.text.generation import Generation
from mlxserve.text.template import PromptRefused
from mlxserve.text.tokenizer import Tokenizer

log = logging.getLogger("mlxserve.api")

DECODER = msgspec.json.Decoder(ChatRequest)


async def create_chat_completion(http: Request) -> Response:
    """Everything that can be refused is refused before the first byte; then the answer, streamed or whole."""
    serving, started = serving_of(http), time.perf_counter()
    try:
        body = await read_body(http, serving.body_limit)
    except ClientDisconnect:
        return Response(status_code=CLIENT_GONE)
    request = decode(body, DECODER)
    check_model(serving, request.model)
    refuse_unsupported(request)
    generation = await _generation(serving, request, len(body))
    identity = Identity(serving.name)
    if request.stream:
        encoder = ChunkEncoder(identity, request.includes_usage)
        events = _events(identity, encoder, generation, request.includes_usage, started)
        return EventStream(events, lambda: _progress(generation), serving.keep_alive)
    return await _whole(http, identity, generation, started)


async def _generation(serving: Serving, request: ChatRequest, body_size: int) -> Generation:
    """Ready to run; 400 if the prompt cannot be made or does not fit, 503 if no engine serves."""
    tokenizer, ready = serving.require_ready()
    if len(request.messages) > ready.context_length:  # a token each at least: not worth rendering
        raise _too_long(ready, f"there are {len(request.messages)} messages")
    try:
        prompt = await serving.encode(lambda: _prompt(tokenizer, request), body_size)
    except PromptRefused as error:
        raise ApiError(400, str(error), param="messages", code="invalid_messages") from None
    space = ready.context_length - len(prompt)
    if space < 1:
        raise _too_long(ready, f"the messages are {len(prompt)} tokens long")
    if not prompt or max(prompt) >= ready.vocab_size:
        message = f"The messages become a prompt that the model cannot read ({len(prompt)} tokens)."
        raise ApiError(400, message, param="messages", code="invalid_messages")
    serving.require_ready()
    limit = min(space, request.token_limit(serving.settings) or space)
    sampling = request.sampling(serving.settings)
    return Generation(serving.engine, tokenizer, prompt, sampling, limit, request.stop_strings)


def _too_long(ready: Ready, found: str) -> ApiError:
    message = f"The model's context holds {ready.context_length} tokens, but {found}."
    return ApiError(400, message, param="messages", code="context_length_exceeded")


def _prompt(tokenizer: Tokenizer, request: ChatRequest) -> list[int]:
    return tokenizer.chat_template.encode([for_template(message) for message in request.messages])


async def _whole(http: Request, identity: Identity, generation: Generation, started: float) -> Response:
    status = 500
    try:
        text = await while_connected(http.receive, _text(generation))
        status = 200
        return Response(completion(identity, text, generation), media_type="application/json")
    except ClientGone:
        status = CLIENT_GONE
        return Response(status_code=CLIENT_GONE)
    except EngineError as error:
        refused = from_engine(error)
        status = refused.status
        return refused.response()
    finally:
        log_answer(identity.id, status, generation, started)


async def _text(generation: Generation) -> str:
    async with aclosing(generation.pieces()) as pieces:
        return "".join([piece.text async for piece in pieces])


async def _events(
    identity: Identity, encoder: ChunkEncoder, generation: Generation, include_usage: bool, started: float
) -> AsyncGenerator[bytes, None]:
    """The stream's events. An error ends it with an event that clients raise, since the headers are out."""
    status = 500
    try:
        async for event in _answer(encoder, generation, include_usage):
            yield event
        status = 200
    except (asyncio.CancelledError, GeneratorExit):
        status = CLIENT_GONE
        raise
    except EngineError as error:
        refused = from_engine(error)
        status = refused.status
        yield b"data: " + refused.body() + b"\n\n"
    except Exception:
        log.exception("%s failed", identity.id)
        yield b"data: " + ApiError(500, INTERNAL).body() + b"\n\n"
    finally:
        log_answer(identity.id, status, generation, started)


async def _answer(encoder: ChunkEncoder, generation: Generation, include_usage: bool) -> AsyncGenerator[bytes, None]:
    begin = encoder.role()
    async with aclosing(generation.pieces()) as pieces:
        async for piece in pieces:
            yield begin + encoder.piece(piece)
            begin = b""
    yield begin + encoder.finish(generation.finish_reason or "stop")
    if include_usage:
        yield encoder.usage(usage_of(generation))
    yield DONE


def _progress(generation: Generation) -> str:
    return f"{generation.prompt_tokens_read} of {len(generation.prompt)} prompt tokens read"
