"""A request and its answer, from the first byte to the last: what is known of it, and what ends it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from starlette.requests import Request

from mlxserve.text.generation import Generation

if TYPE_CHECKING:
    from mlxserve.api.traffic.account import Account

State = Literal["waiting", "reading", "writing"]
CLIENT_GONE = 499
"""The status of requests whose client left, as nginx has it."""
CANCELLED = 410
"""The status of requests that were cancelled: one that clients do not try again by themselves."""


class Exchange:
    """One request. It is open from when its answer is begun until there is all of it."""

    def __init__(self, account: Account, number: str, target: str, endpoint: str) -> None:
        """`target` is what was asked for, for the log; `endpoint` the address where answers are generated, or empty."""
        self._account = account
        self.id = number
        self.target = target
        self.endpoint = endpoint
        self.client = ""
        """Who asks, as client.py tells clients apart."""
        self.answer = ""
        """What its client knows its answer by."""
        self.generations: list[Generation] = []
        self.arrived = time.time()
        self.started = time.perf_counter()
        self._first_token_at = 0.0
        self._reading_at = 0.0
        self._prompt_tokens_read = 0

    def admit(self, answer: str, generations: list[Generation]) -> None:
        """It is being answered from now on, by `generations`, until `end`."""
        self.answer = answer
        self.generations = generations
        for generation in generations:
            generation.watcher = self
        self._account.admit(self)

    def end(self, status: int, error: str = "") -> None:
        """It was answered, or failed for the reason `error`."""
        self._account.end(self, status, error)

    def refuse(self, status: int, error: str, code: str = "", param: str = "") -> None:
        """It is not answered, for the reason `error`."""
        self._account.refuse(self, status, error, code, param)

    def cancel(self) -> None:
        """End it; its client is told."""
        for generation in self.generations:
            generation.cancel()

    def reads(self, began: float) -> None:
        """See generation.Watcher."""
        if not self._reading_at:
            self._reading_at = began
            self._account.queue_times.note(max(0.0, began - self.started))

    def writes(self, tokens: int, seconds: float) -> None:
        """See generation.Watcher."""
        if seconds:
            self._account.token_times.note(seconds / tokens, tokens)
        elif not self._first_token_at:
            self._first_token_at = time.perf_counter()
            self._account.first_token(self._first_token_at - self.started)

    @property
    def state(self) -> State:
        """How far it is."""
        if self._first_token_at:
            return "writing"
        return "reading" if self._reading_at else "waiting"

    @property
    def seconds(self) -> float:
        """Since it came."""
        return time.perf_counter() - self.started

    @property
    def ttft(self) -> float | None:
        """Seconds to its first token, once that is there."""
        return self._first_token_at - self.started if self._first_token_at else None

    @property
    def prompt_tokens(self) -> int:
        """Of all its prompts; one that several answers share counts once."""
        return sum(len(shared[0].prompt) for shared in self._by_prompt())

    @property
    def prompt_tokens_read(self) -> int:
        """How many of them have been read, those found in the cache among them; never less than before."""
        read = sum(max(one.prompt_tokens_read for one in shared) for shared in self._by_prompt())
        self._prompt_tokens_read = max(self._prompt_tokens_read, read)
        return self._prompt_tokens_read

    @property
    def cached_tokens(self) -> int:
        """How many of them none of its answers had to read."""
        return sum(min(one.cached_tokens for one in shared) for shared in self._by_prompt())

    @property
    def completion_tokens(self) -> int:
        """Of all its answers so far."""
        return sum(generation.completion_tokens for generation in self.generations)

    @property
    def max_tokens(self) -> int:
        """The most that they may become."""
        return sum(generation.task.max_tokens for generation in self.generations)

    @property
    def tokens_per_second(self) -> float:
        """How fast it is written, from the first token on."""
        begun = [generation for generation in self.generations if generation.first_token_at]
        if not begun:
            return 0.0
        seconds = max(one.last_token_at for one in begun) - min(one.first_token_at for one in begun)
        return (self.completion_tokens - len(begun)) / seconds if seconds > 0 else 0.0

    @property
    def finish(self) -> str:
        """Why its answers ended, in OpenAI's words, with commas between different ones; "stop" where we ended them."""
        return ",".join(dict.fromkeys(generation.finish_reason or "stop" for generation in self.generations))

    def _by_prompt(self) -> list[list[Generation]]:
        if len(self.generations) == 1:
            return [self.generations]
        shared: dict[int, list[Generation]] = {}
        for generation in self.generations:
            shared.setdefault(id(generation.prompt), []).append(generation)
        return list(shared.values())


def exchange_of(request: Request) -> Exchange:
    """The one that the request's arrival began."""
    exchange: Exchange = request.scope["state"]["exchange"]
    return exchange
