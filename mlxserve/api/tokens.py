"""POST /tokenize, /detokenize and /apply-template, as llama-server and vLLM have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.body import decode, read_body
from mlxserve.api.errors import ApiError
from mlxserve.api.fields import refuse_unsupported
from mlxserve.api.question import Question, asked, chat_of
from mlxserve.api.schema import NOTHING, ChatRequest
from mlxserve.api.serving import serving_of
from mlxserve.engine.messages import Ready
from mlxserve.text.template import PromptRefused
from mlxserve.text.tokenizer import Tokenizer


class TokenizeRequest(msgspec.Struct):
    """llama-server asks for `content`, vLLM for `prompt` or `messages`: one of the three."""

    content: str | None = None
    prompt: str | None = None
    messages: list[Any] | None = None
    add_special: bool | None = None
    """llama-server's; false by default."""
    parse_special: bool | None = None
    """llama-server's: whether control tokens in the text are read as such; true by default."""
    with_pieces: bool | None = None
    """llama-server's."""
    add_special_tokens: bool | None = None
    """vLLM's; true by default."""
    return_token_strs: bool | None = None
    """vLLM's."""


class DetokenizeRequest(msgspec.Struct):
    tokens: list[Annotated[int, Meta(ge=0, lt=2**31)]]


class Detokenized(msgspec.Struct):
    """The text under both names: llama-server's and vLLM's."""

    content: str
    prompt: str


class TokenPiece(msgspec.Struct):
    """`piece` is a token's text, or its bytes where they are no text by themselves."""

    id: int
    piece: str | list[int]


class Tokens(msgspec.Struct):
    """llama-server's answer."""

    tokens: Sequence[int | TokenPiece]


class CountedTokens(msgspec.Struct):
    """vLLM's answer."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


class TokenizerInfo(msgspec.Struct):
    """What vLLM tells of a tokenizer; lm-evaluation-harness reads it instead of a tokenizer of its own."""

    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    chat_template: str


TOKENIZE = msgspec.json.Decoder(TokenizeRequest)
DETOKENIZE = msgspec.json.Decoder(DetokenizeRequest)
CHAT = msgspec.json.Decoder(ChatRequest)


async def tokenize(http: Request) -> Response:
    """The tokens of a text, or of a chat's prompt."""
    serving, body = serving_of(http), await _body(http)
    request = decode(body, TOKENIZE)
    asked_for = [name for name in ("content", "prompt", "messages") if getattr(request, name) is not None]
    if len(asked_for) != 1:
        message = "One of 'content', 'prompt' and 'messages' is required."
        raise ApiError(400, message, param=asked_for[1] if asked_for else "content", code="invalid_value")
    tokenizer, ready = serving.require_ready()
    if request.messages is not None:
        task = await asked(serving, _question(body), len(body))
        return _counted(tokenizer, ready, task.prompt, request)
    tokens = await serving.in_thread(lambda: _encoded(tokenizer, request), len(body))
    if request.prompt is not None:
        return _counted(tokenizer, ready, tokens, request)
    return _json(Tokens([_piece(tokenizer, token) for token in tokens] if request.with_pieces else tokens))


async def detokenize(http: Request) -> Response:
    """The text of tokens."""
    serving, body = serving_of(http), await _body(http)
    tokens = decode(body, DETOKENIZE).tokens
    tokenizer, ready = serving.require_ready()
    if tokens and max(tokens) >= ready.vocab_size:
        message = f"'tokens' has token {max(tokens)}, but the model's tokens are 0 to {ready.vocab_size - 1}."
        raise ApiError(400, message, param="tokens", code="invalid_value")
    text = await serving.in_thread(lambda: tokenizer.decode(tokens), len(body))
    return _json(Detokenized(text, text))


async def apply_template(http: Request) -> Response:
    """The prompt that a chat becomes, as text. What somebody typed like a control token looks like one in it."""
    serving, body = serving_of(http), await _body(http)
    question = _question(body)
    tokenizer, _ = serving.require_ready()
    text = await serving.in_thread(lambda: _rendered(tokenizer, question), len(body))
    return _json({"prompt": text})


async def tokenizer_info(http: Request) -> Response:
    """GET /tokenizer_info."""
    tokenizer, _ = serving_of(http).require_ready()
    tokens = tokenizer.control_token("bos"), tokenizer.control_token("eos"), tokenizer.control_token("pad")
    return _json(TokenizerInfo(*tokens, tokenizer.chat_template.source))


async def _body(http: Request) -> bytes:
    return await read_body(http, serving_of(http).body_limit)


def _question(body: bytes) -> Question:
    request = decode(body, CHAT)
    refuse_unsupported(request, NOTHING)
    return request.question()


def _encoded(tokenizer: Tokenizer, request: TokenizeRequest) -> list[int]:
    if request.prompt is not None:
        return tokenizer.encode(request.prompt, request.add_special_tokens is not False)
    text, special = request.content or "", bool(request.add_special)
    if request.parse_special is not False:
        return tokenizer.encode(text, special)
    try:
        return (tokenizer.encode("") if special else []) + tokenizer.encode_plain(text)
    except PromptRefused as error:
        raise ApiError(400, str(error), param="content", code="invalid_value") from None


def _rendered(tokenizer: Tokenizer, question: Question) -> str:
    try:
        return tokenizer.chat_template.text(chat_of(question))
    except PromptRefused as error:
        raise ApiError(400, str(error), param="messages", code="invalid_messages") from None


def _counted(tokenizer: Tokenizer, ready: Ready, tokens: list[int], request: TokenizeRequest) -> Response:
    texts = [tokenizer.bytes_of(token).decode(errors="replace") for token in tokens]
    return _json(CountedTokens(len(tokens), ready.context_length, tokens, texts if request.return_token_strs else None))


def _piece(tokenizer: Tokenizer, token: int) -> TokenPiece:
    piece = tokenizer.bytes_of(token)
    try:
        return TokenPiece(token, piece.decode())
    except UnicodeDecodeError:
        return TokenPiece(token, list(piece))


def _json(value: Any) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")
