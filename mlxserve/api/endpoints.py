"""All addresses of the API, in one table: what answers there, what it takes and what it gives."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import groupby
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from mlxserve.api.answer import ChatCompletion
from mlxserve.api.anthropic.answer import Message
from mlxserve.api.anthropic.endpoint import count_tokens, create_message
from mlxserve.api.anthropic.request import CountRequest, MessageRequest
from mlxserve.api.chat import create_chat_completion
from mlxserve.api.completions.endpoint import create_completion
from mlxserve.api.completions.request import CompletionRequest
from mlxserve.api.completions.shape import Completion
from mlxserve.api.embeddings import create_embeddings
from mlxserve.api.health import HealthReport, Life, health, livez
from mlxserve.api.models import Model, ModelList, list_models, retrieve_model
from mlxserve.api.props import Props, props
from mlxserve.api.responses import endpoints as responses
from mlxserve.api.responses.answer import Answer, Deleted, InputTokens, ItemPage
from mlxserve.api.responses.request import ResponsesRequest
from mlxserve.api.schema import ChatRequest
from mlxserve.api.slots import Slot, slots
from mlxserve.api.tokens import (
    CountedTokens,
    Detokenized,
    DetokenizeRequest,
    TokenizeRequest,
    TokenizerInfo,
    Tokens,
    apply_template,
    detokenize,
    tokenize,
    tokenizer_info,
)
from mlxserve.api.traffic.listing import Cancelled, Requests, cancel, requests
from mlxserve.api.traffic.metrics import OPEN_METRICS, PLAIN_TEXT, metrics
from mlxserve.api.traffic.report import Traffic, traffic

Run = Callable[[Request], Awaitable[Response]]
PAGE = {
    "after": str,
    "limit": Annotated[int, Meta(ge=1, le=100)],
    "order": Literal["asc", "desc"],
}
EVENTS = {"stream": bool, "starting_after": Annotated[int, Meta(ge=0, le=2**53)]}


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One method at one address. `/v1` is before `path`, and may be left out."""

    path: str
    """Its parts in braces are parameters, as Starlette writes them."""
    run: Run
    summary: str
    method: Literal["GET", "POST", "DELETE"] = "POST"
    request: Any = None
    """The type of the request's body; None where there is none."""
    query: dict[str, Any] = {}
    """The types of the parameters after `?`."""
    answers: tuple[Any, ...] = ()
    """The types of the answer, one of which it has; empty: an object that is not described."""
    texts: tuple[str, ...] = ()
    """The media types of the answer, where it is plain text."""
    streams: bool = False
    """Whether the answer may be a stream of events."""
    refusals: tuple[int, ...] = (400, 404, 410, 413, 429, 500, 503)
    """The statuses of errors, besides those that are possible everywhere."""
    unwell: Any = None
    """The type of the answer with status 503, where that is no error."""


GET: dict[str, Any] = {"method": "GET"}
READY = (503,)

ENDPOINTS = (
    Endpoint(
        path="/chat/completions",
        run=create_chat_completion,
        summary="Answer a chat (OpenAI)",
        request=ChatRequest,
        answers=(ChatCompletion,),
        streams=True,
    ),
    Endpoint(
        path="/completions",
        run=create_completion,
        summary="Go on with a text (OpenAI)",
        request=CompletionRequest,
        answers=(Completion,),
        streams=True,
    ),
    Endpoint(
        path="/responses",
        run=responses.create_response,
        summary="Answer a conversation, and keep it (OpenAI)",
        request=ResponsesRequest,
        answers=(Answer,),
        streams=True,
    ),
    Endpoint(
        path="/responses/input_tokens",
        run=responses.count_input_tokens,
        summary="Count the tokens of a prompt (OpenAI)",
        request=ResponsesRequest,
        answers=(InputTokens,),
    ),
    Endpoint(
        path="/responses/{id}",
        run=responses.retrieve_response,
        summary="A response that was kept (OpenAI)",
        query=EVENTS,
        answers=(Answer,),
        streams=True,
        refusals=(400, 404),
        **GET,
    ),
    Endpoint(
        path="/responses/{id}",
        run=responses.delete_response,
        summary="Forget a response (OpenAI)",
        method="DELETE",
        answers=(Deleted,),
        refusals=(404,),
    ),
    Endpoint(
        path="/responses/{id}/cancel",
        run=responses.cancel_response,
        summary="End a response that is made in the background (OpenAI)",
        answers=(Answer,),
        refusals=(400, 404),
    ),
    Endpoint(
        path="/responses/{id}/input_items",
        run=responses.list_input_items,
        summary="What a response answers (OpenAI)",
        query=PAGE,
        answers=(ItemPage,),
        refusals=(400, 404),
        **GET,
    ),
    Endpoint(
        path="/messages",
        run=create_message,
        summary="Answer a conversation (Anthropic)",
        request=MessageRequest,
        answers=(Message,),
        streams=True,
    ),
    Endpoint(
        path="/messages/count_tokens",
        run=count_tokens,
        summary="Count the tokens of a prompt (Anthropic)",
        request=CountRequest,
    ),
    Endpoint(
        path="/embeddings",
        run=create_embeddings,
        summary="Not served: always 501",
        request=dict[str, Any],
        refusals=(501,),
    ),
    Endpoint(path="/models", run=list_models, summary="The model's names", answers=(ModelList,), refusals=(), **GET),
    Endpoint(
        path="/models/{name:path}",
        run=retrieve_model,
        summary="The model",
        answers=(Model,),
        refusals=(404,),
        **GET,
    ),
    Endpoint(
        path="/tokenize",
        run=tokenize,
        summary="The tokens of a text or a chat (llama-server, vLLM)",
        request=TokenizeRequest,
        answers=(Tokens, CountedTokens),
    ),
    Endpoint(
        path="/detokenize",
        run=detokenize,
        summary="The text of tokens (llama-server, vLLM)",
        request=DetokenizeRequest,
        answers=(Detokenized,),
    ),
    Endpoint(
        path="/apply-template",
        run=apply_template,
        summary="The prompt that a chat becomes (llama-server)",
        request=ChatRequest,
        answers=(dict[str, str],),
    ),
    Endpoint(
        path="/tokenizer_info",
        run=tokenizer_info,
        summary="The tokenizer's control tokens (vLLM)",
        answers=(TokenizerInfo,),
        refusals=READY,
        **GET,
    ),
    Endpoint(
        path="/props",
        run=props,
        summary="How the model is served (llama-server)",
        answers=(Props,),
        refusals=READY,
        **GET,
    ),
    Endpoint(
        path="/slots",
        run=slots,
        summary="What is being answered now (llama-server)",
        answers=(list[Slot],),
        refusals=READY,
        **GET,
    ),
    Endpoint(
        path="/traffic",
        run=traffic,
        summary="What the server does, and what it did in the last minutes and the last day",
        query={"day": Annotated[int, Meta(ge=0, le=1)]},
        answers=(Traffic,),
        refusals=(),
        **GET,
    ),
    Endpoint(
        path="/requests",
        run=requests,
        summary="Which requests are open, and which were answered lately",
        answers=(Requests,),
        refusals=(),
        **GET,
    ),
    Endpoint(
        path="/requests/{id}/cancel",
        run=cancel,
        summary="End an open request, whoever asked it",
        answers=(Cancelled,),
        refusals=(404,),
    ),
    Endpoint(
        path="/metrics",
        run=metrics,
        summary="All figures, for Prometheus",
        texts=(PLAIN_TEXT, OPEN_METRICS),
        refusals=(),
        **GET,
    ),
    Endpoint(
        path="/health",
        run=health,
        summary="Whether the model is served, and by which ranks",
        answers=(HealthReport,),
        refusals=(),
        unwell=HealthReport,
        **GET,
    ),
    Endpoint(
        path="/livez",
        run=livez,
        summary="Whether this process answers at all, whatever becomes of the model",
        answers=(Life,),
        refusals=(),
        **GET,
    ),
)


def routes(prefix: str) -> list[Route]:
    """The table's addresses with `prefix` before them."""
    return [_route(prefix + path, list(endpoints)) for path, endpoints in groupby(ENDPOINTS, lambda one: one.path)]


def _route(path: str, endpoints: list[Endpoint]) -> Route:
    """One for all methods, so that an answer to another method names them all."""
    runs: dict[str, Run] = {endpoint.method: endpoint.run for endpoint in endpoints}

    async def run(request: Request) -> Response:
        return await runs["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, run if len(runs) > 1 else endpoints[0].run, methods=list(runs))
