"""One line in the log for each request that was answered, left or refused; never a word of its text."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlxserve.api.traffic.account import Past

log = logging.getLogger("mlxserve.api")


def log_answer(answer: str, past: Past) -> None:
    """Of a request whose answer, known by the id `answer`, was begun; where it failed, with the reason."""
    fields = {
        "client": past.client,
        "status": past.status,
        "prompt_tokens": past.prompt_tokens,
        "cached_tokens": past.cached_tokens,
        "completion_tokens": past.completion_tokens,
        "ttft": past.ttft,
        "tokens_per_second": past.tokens_per_second,
        "seconds": past.seconds,
        "finish": past.finish,
        "answer": answer,
    }
    _write(logging.WARNING if past.status >= 500 else logging.INFO, past, fields)


def log_refusal(past: Past, target: str, code: str, param: str) -> None:
    """Of a request for `target` that was not answered."""
    fields = {"target": target, "client": past.client, "status": past.status, "code": code, "param": param}
    _write(logging.WARNING if past.status == 500 else logging.DEBUG, past, fields)


def _write(level: int, past: Past, fields: dict[str, Any]) -> None:
    """`id endpoint name=value … error`; formatters that have fields of their own find them in `fields`."""
    if not log.isEnabledFor(level):
        return
    told = {name: value for name, value in fields.items() if value not in ("", None)}
    more = {"id": past.id, "endpoint": past.endpoint, **told, "error": past.error}
    place = str(told.pop("target", past.endpoint))
    words = [past.id, place, *(f"{name}={_shown(name, value)}" for name, value in told.items())]
    text = " ".join(words) + (f": {past.error}" if past.error else "")
    log.log(level, "%s", text, extra={"fields": {name: value for name, value in more.items() if value != ""}})


def _shown(name: str, value: Any) -> str:
    if name in ("ttft", "seconds"):
        return f"{value:.3f}s"
    return f'"{value}"' if " " in str(value) else str(value)
