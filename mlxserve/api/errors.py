"""Errors, whatever went wrong, in OpenAI's shape; in Anthropic's for its addresses."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ExceptionHandler

from mlxserve.api.anthropic.errors import error_body, request_id, speaks_anthropic
from mlxserve.api.client import client_of
from mlxserve.api.traffic.exchange import CANCELLED, CLIENT_GONE, exchange_of
from mlxserve.errors import EngineError, EngineNotReady, RequestCancelled

RETRY_AFTER = {"Retry-After": "2"}
INTERNAL = "The server failed on this request; its log says why."


class ErrorDetail(msgspec.Struct, frozen=True):
    """What OpenAI's clients read of an error. `param` is the path of the field that is to blame."""

    message: str
    type: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None


class ErrorBody(msgspec.Struct, frozen=True):
    """The whole body of an error, or of the event that ends a stream with one."""

    error: ErrorDetail


class ApiError(Exception):
    """A request that is answered with `status` and an error body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
        self.status = status
        self.detail = ErrorDetail(message, kind, param, code)
        self.headers = headers

    def response(self) -> Response:
        """The answer to the request."""
        return Response(self.body(), self.status, self.headers, "application/json")

    def body(self) -> bytes:
        """The error as JSON."""
        return msgspec.json.encode(ErrorBody(self.detail))


def from_engine(error: EngineError) -> ApiError:
    """503 while no engine serves, 410 for what was cancelled, 500 for what the engine could not do."""
    if isinstance(error, RequestCancelled):
        return ApiError(CANCELLED, f"This request was ended before its answer was complete: {error}.", code="cancelled")
    if isinstance(error, EngineNotReady):
        return ApiError(503, f"The engine cannot answer now: {error}.", code="engine_not_ready", headers=RETRY_AFTER)
    return ApiError(500, f"The engine could not answer: {error}", code="generation_failed")


def refused(request: Request, error: ApiError) -> Response:
    """The answer to a request that is refused, which is logged."""
    _note(request, error)
    return answer_of(request.scope["path"], error)


def answer_of(path: str, error: ApiError) -> Response:
    """`error` in the shape of the API that clients of `path` speak."""
    if not speaks_anthropic(path):
        return error.response()
    number = request_id()
    headers = {**(error.headers or {}), "request-id": number}
    return Response(error_body(error.status, error.detail.message, number), error.status, headers, "application/json")


def _api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return refused(request, error)


def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette itself refuses: unknown addresses and methods."""
    assert isinstance(error, HTTPException)
    method, path = _target(request)
    sentences = {
        404: (f"There is nothing at {path}.", "unknown_url"),
        405: (f"{path} does not take {method}.", "method_not_allowed"),
    }
    message, code = sentences.get(error.status_code, (error.detail, None))
    return refused(request, ApiError(error.status_code, message, code=code, headers=error.headers))


def _too_deep(request: Request, error: Exception) -> Response:
    """Whatever recurses does so over JSON that the client sent."""
    return refused(request, ApiError(400, "The request's body is nested too deeply.", code="invalid_json"))


def _unexpected(request: Request, error: Exception) -> Response:
    """A mistake of ours; Starlette raises it again when the answer is out, so that it is logged whole."""
    mistake = ApiError(500, INTERNAL)
    _note(request, mistake)
    return answer_of(request.scope["path"], mistake)


def _note(request: Request, error: ApiError) -> None:
    exchange = exchange_of(request)
    exchange.client = client_of(request)
    exchange.refuse(error.status, error.detail.message, error.detail.code or "", error.detail.param or "")


def _target(request: Request) -> tuple[str, str]:
    """Method and path; not from `request.url`, which cannot be made where the header Host is nonsense."""
    return request.method, request.scope["path"]


def _client_gone(request: Request, error: Exception) -> Response:
    """Nobody reads this: the client left while its request's body was read."""
    _note(request, ApiError(CLIENT_GONE, "The client left before its request was complete."))
    return Response(status_code=CLIENT_GONE)


EXCEPTION_HANDLERS: dict[type[Exception], ExceptionHandler] = {
    ApiError: _api_error,
    HTTPException: _http_error,
    RecursionError: _too_deep,
    ClientDisconnect: _client_gone,
    Exception: _unexpected,
}
