"""Asking a subject, by the load of `mlxserve bench`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

from mlxserve.bench.answer import Answer
from mlxserve.bench.load import Conversation, Run, run
from mlxserve.bench.server import Server as Address
from mlxserve.bench.workloads import WORKLOADS, Asking, Workload, conversations

from .server import SubjectError

WARM_UP_TOKENS = 4
_numbers = count(200_000)
"""Every prompt of a whole run is another one."""


def numbers(many: int) -> list[int]:
    """So many that nobody has had."""
    return list(islice(_numbers, many))


def asked(url: str, workload: str | Workload, streams: int, requests: int, tokens: int, warm: bool = False) -> Run:
    """Hold `requests` conversations, `streams` at a time; unless it is `warm`, after short ones that are not measured.

    Raises SubjectError on failures.
    """
    kind = WORKLOADS[workload] if isinstance(workload, str) else workload
    address = Address(url)
    if not warm:
        _complete(run(address, _bodies(kind, min(streams, requests), WARM_UP_TOKENS), streams))
    return _complete(run(address, _bodies(kind, requests, tokens), streams))


def one(url: str, body: bytes) -> Answer:
    """The answer to a single request. Raises SubjectError if it failed."""
    return _complete(run(Address(url), [[body]], 1)).answers[0]


def bodies(workload: str | Workload, many: int, tokens: int) -> list[Conversation]:
    """So many conversations that nobody has had."""
    return list(_bodies(WORKLOADS[workload] if isinstance(workload, str) else workload, many, tokens))


def with_content(content: str, tokens: int) -> bytes:
    """A request with `content` as its system prompt."""
    turns = [{"role": "system", "content": content}, {"role": "user", "content": f"{numbers(1)[0]} is what?"}]
    (body,) = next(conversations(Workload("", "", lambda _: [turns]), Asking(tokens=tokens), iter([0])))
    return body


def median_first(answers: list[Answer]) -> float:
    """Seconds to the first token, the median answer's."""
    return sorted(answer.first_token for answer in answers)[len(answers) // 2]


def _bodies(workload: Workload, many: int, tokens: int) -> Iterator[Conversation]:
    return conversations(workload, Asking(tokens=tokens), iter(numbers(many)))


def _complete(done: Run) -> Run:
    if not done.whole:
        raise KeyboardInterrupt
    if errors := [answer.error for answer in done.answers if answer.error]:
        raise SubjectError(f"{len(errors)} of {len(done.answers)} requests failed: {errors[0]}")
    return done
