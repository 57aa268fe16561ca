"""Errors in Anthropic's shape."""

from __future__ import annotations

import re
import secrets
from typing import Literal

import msgspec

PATHS = re.compile(r"(/v1)?/messages(/.*)?")

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


class ErrorDetail(msgspec.Struct, frozen=True):
    type: str
    message: str


class ErrorBody(msgspec.Struct, frozen=True):
    """The whole body of an error, or of the event that ends a stream with one."""

    error: ErrorDetail
    request_id: str
    type: Literal["error"] = "error"


def speaks_anthropic(path: str) -> bool:
    """Whether clients of this address expect Anthropic's shapes."""
    return PATHS.fullmatch(path) is not None


def request_id() -> str:
    """An id for a request that nothing else has."""
    return f"req_{secrets.token_hex(12)}"


def error_body(status: int, message: str, request: str) -> bytes:
    """An error of the request with this id as JSON."""
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
    return msgspec.json.encode(ErrorBody(ErrorDetail(kind, message), request))
