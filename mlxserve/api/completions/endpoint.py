"""POST /v1/completions."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.body import decode, read_body
from mlxserve.api.client import client_of
from mlxserve.api.completions.answer import Answer
from mlxserve.api.completions.prompt import Prompt, read_prompts
from mlxserve.api.completions.request import NOTHING, CompletionRequest
from mlxserve.api.completions.writer import ChoiceWriter
from mlxserve.api.delivery import streamed, whole
from mlxserve.api.fields import refuse_unsupported
from mlxserve.api.form import made
from mlxserve.api.models import check_model
from mlxserve.api.question import check_bias
from mlxserve.api.serving import Serving, serving_of
from mlxserve.api.sse import EventStream
from mlxserve.api.traffic.exchange import exchange_of
from mlxserve.engine.messages import Ready
from mlxserve.text.generation import Task
from mlxserve.text.tokenizer import Tokenizer

DECODER = msgspec.json.Decoder(CompletionRequest)


async def create_completion(http: Request) -> Response:
    """Everything that can be refused is refused before the first byte; then the answer, streamed or whole."""
    serving, exchange = serving_of(http), exchange_of(http)
    body = await read_body(http, serving.body_limit)
    request = decode(body, DECODER)
    check_model(serving, request.model)
    refuse_unsupported(request, NOTHING)
    request.check()
    writers = await _writers(serving, request, len(body), client_of(http))
    answer = Answer(serving.name, request, writers, exchange.started)
    if request.stream:
        events = streamed(exchange, answer.identity.id, answer.generations, answer.events())
        return EventStream(events, answer.progress, serving.keep_alive)
    return await whole(http, answer.identity.id, answer.generations, answer.body())


async def _writers(serving: Serving, request: CompletionRequest, body_size: int, client: str) -> list[ChoiceWriter]:
    """One for each answer to be generated; `client` asks. Raises ApiError."""
    tokenizer, ready = serving.require_ready()
    field, form = request.form()
    draw = request.draw()
    check_bias(ready, draw)
    size = serving.body_limit if form else body_size
    prompts, grammar = await serving.in_thread(
        lambda: (read_prompts(tokenizer, ready, request), made(field, form) if form else ""), size
    )
    serving.require_room(client)
    return [
        ChoiceWriter(
            tokenizer,
            prompt,
            serving.generation(
                tokenizer,
                msgspec.structs.replace(
                    _task(tokenizer, ready, request, prompt, grammar),
                    sampling=draw.sampling(serving.settings, number),
                    client=client,
                ),
            ),
            echo=bool(request.echo),
            logprobs=request.logprobs is not None,
            silent=request.max_tokens == 0,
        )
        for prompt in prompts
        for number in range(request.candidates)
    ]


def _task(tokenizer: Tokenizer, ready: Ready, request: CompletionRequest, prompt: Prompt, grammar: str) -> Task:
    """All but the sampling. The engine draws a token at least."""
    space = ready.context_length - len(prompt.tokens)
    infill_ends = tokenizer.infill.ends if tokenizer.infill and request.suffix else []
    told = request.logprobs is not None or request.ranked
    return Task(
        prompt=prompt.tokens,
        max_tokens=min(space, max(1, request.new_tokens)),
        stop=request.stop_strings + infill_ends,
        top_logprobs=(request.logprobs or 0) if told else -1,
        prompt_logprobs=bool(request.echo) and request.logprobs is not None,
        grammar=grammar,
    )
