"""Reading a request's body: bounded in size, and decoded into its type or refused with the field to blame."""

from __future__ import annotations

import asyncio
import re
from typing import TypeVar

import msgspec
from starlette.requests import Request

from mlxserve.api.errors import ApiError

T = TypeVar("T")

AT = re.compile(r"(?P<reason>.*) - at `\$\.?(?P<path>.*)`", re.DOTALL)
"""How msgspec ends an error with its place: " - at `$.messages[0].role`"."""
MISSING = re.compile(r"Object missing required field `(\w+)`")
PART_TYPE = re.compile(
    r"(messages\[\d+\](\.content\[\d+\])+|system\[\d+\]|input\[\d+\]\.(content|output)\[\d+\])\.type"
)


BODY_SECONDS = 60.0
"""In which a body must come in."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body; 413 if it is longer than `limit` bytes, 408 if it does not come in."""
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > limit:
                    raise ApiError(413, f"The request's body is longer than {limit} bytes.", code="body_too_large")
    except TimeoutError:
        late = f"The request's body did not come in within {BODY_SECONDS:g} s."
        raise ApiError(408, late, code="body_too_late", headers={"Connection": "close"}) from None
    return bytes(body)


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """`body` as the decoder's type; 400 if it is no JSON, or other than the type says."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"The request's body is not valid JSON in UTF-8: {error}.", code="invalid_json") from None
    except RecursionError:
        raise ApiError(400, "The request's body is nested too deeply.", code="invalid_json") from None


def invalid(error: str, at: str = "") -> ApiError:
    """400 for msgspec's `error` about the request's field `at`, or about the request."""
    place = AT.fullmatch(error)
    reason, path = (place["reason"], place["path"]) if place else (error, "")
    path = f"{at}{path if path.startswith('[') or not path or not at else '.' + path}"
    if missing := MISSING.fullmatch(reason):
        path = f"{path}.{missing[1]}" if path else missing[1]
        return ApiError(400, f"'{path}' is required.", param=path, code="missing_required_parameter")
    if PART_TYPE.fullmatch(path):
        reason += ": the model reads text only, so it cannot be given such content"
    if not path:
        return ApiError(400, f"The request's body is not as it must be: {reason}.", code="invalid_type")
    return ApiError(400, f"Invalid value for '{path}': {reason}.", param=path, code="invalid_value")
