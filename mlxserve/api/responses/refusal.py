"""Requests whose fields are not what they must be: 400 with the field to blame."""

from __future__ import annotations

from typing import Any

import msgspec

from mlxserve.api.body import invalid
from mlxserve.api.errors import ApiError

MOST_DEPTH = 100


def typed(value: Any, kind: Any, at: str = "") -> Any:
    """`value`, decoded JSON that a client sent as the field `at`, as `kind`; raises ApiError where it is other."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise invalid(str(error), at) from None
    except RecursionError:
        raise too_deep(at) from None


def wrong(param: str, message: str, code: str = "invalid_value") -> ApiError:
    """400 with the field to blame."""
    return ApiError(400, message, param=param, code=code)


def too_deep(at: str) -> ApiError:
    """400: no JSON that means something is nested so deeply."""
    return ApiError(400, f"'{at or 'input'}' is nested too deeply.", param=at or None, code="invalid_value")


def check_depth(value: Any, at: str) -> None:
    """400 if `value`, decoded JSON, is so deep that encoding it again may fail."""
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [one for outer in level if isinstance(outer, dict | list) for one in _within(outer)]
        if not level:
            return
    raise too_deep(at)


def _within(outer: dict[str, Any] | list[Any]) -> list[Any]:
    return list(outer.values()) if isinstance(outer, dict) else outer
