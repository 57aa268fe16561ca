"""The account of all requests: which are open, which were answered lately, and sums over all that ever came."""

from __future__ import annotations

from collections import Counter, deque
from itertools import count

import msgspec
from msgspec import UNSET, UnsetType

from mlxserve.api.request_log import log_answer, log_refusal
from mlxserve.api.traffic.exchange import CANCELLED, CLIENT_GONE, Exchange
from mlxserve.api.traffic.history import History, Sample
from mlxserve.api.traffic.spread import BETWEEN_TOKENS, FIRST_TOKEN, WHOLE_REQUEST, Spread
from mlxserve.engine.client import EngineClient
from mlxserve.text.tokenizer import Tokenizer

ENDPOINTS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages"})
"""Where answers are generated."""
MOST_RECENT = 100
SHOWN_CHARACTERS = 200
"""Of the end of a prompt, where prompts are shown at all."""
SHOWN_TOKENS = 200


class Past(msgspec.Struct, frozen=True):
    """A request that has ended. `started`: Unix time; `ttft` and `seconds` count from there."""

    id: str
    endpoint: str
    client: str
    started: float
    seconds: float
    status: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft: float | None
    tokens_per_second: float
    finish: str
    error: str
    prompt: str | UnsetType = UNSET


class Totals(msgspec.Struct, frozen=True):
    """Since the server started; the same numbers as in /metrics."""

    requests: int
    failed: int
    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    prefix_queries: int
    prefix_hits: int
    draft_tokens: int
    accepted_tokens: int
    preemptions: int
    engine_restarts: int


class Account:
    """Belongs to the node's event loop."""

    def __init__(self, engine: EngineClient, shows_prompts: bool) -> None:
        self._engine = engine
        self._shows_prompts = shows_prompts
        self._numbers = count(1)
        self._past_prompt_tokens = 0
        self._past_cached_tokens = 0
        self._past_generated_tokens = 0
        self._waited = 0
        self._samples = 0
        self._present: set[str] = set()
        self.tokenizer: Tokenizer | None = None
        """By which prompts are shown."""
        self.history = History()
        self.open: dict[str, Exchange] = {}
        self.recent: deque[Past] = deque(maxlen=MOST_RECENT)
        """The newest first."""
        self.answered: Counter[tuple[str, int]] = Counter()
        """Requests by endpoint and status."""
        self.finished: Counter[str] = Counter()
        """Requests whose answer was begun, by vLLM's words for how it ended."""
        self.first_token_times = Spread(FIRST_TOKEN)
        self.token_times = Spread(BETWEEN_TOKENS)
        self.request_times = Spread(WHOLE_REQUEST)
        self.queue_times = Spread(WHOLE_REQUEST)

    def arrive(self, method: str, path: str, wanted: str) -> Exchange:
        """A new request; with the id that is `wanted`, unless it is empty or another request has it."""
        endpoint = path if path.startswith("/v1/") else f"/v1{path}"
        number = wanted if wanted and not self._is_taken(wanted) else self._next_id()
        self._present.add(number)
        return Exchange(self, number, f"{method} {path!r}", endpoint if endpoint in ENDPOINTS else "")

    def leave(self, exchange: Exchange) -> None:
        """Its connection has no more to do with it."""
        self._present.discard(exchange.id)

    def admit(self, exchange: Exchange) -> None:
        """It is open from now on."""
        exchange.client = exchange.generations[0].task.client
        self.open[exchange.id] = exchange

    def end(self, exchange: Exchange, status: int, error: str) -> None:
        """It is open no more."""
        del self.open[exchange.id]
        self._past_prompt_tokens += exchange.prompt_tokens_read
        self._past_cached_tokens += exchange.cached_tokens
        self._past_generated_tokens += exchange.completion_tokens
        self.answered[exchange.endpoint, status] += 1
        finish = _finish(exchange, status)
        self.finished[finish.partition(",")[0]] += 1
        self.request_times.note(exchange.seconds)
        past = self._past(exchange, status, finish, error)
        self.recent.appendleft(past)
        log_answer(exchange.answer, past)

    def refuse(self, exchange: Exchange, status: int, error: str, code: str, param: str) -> None:
        """It is not answered."""
        past = self._past(exchange, status, "", error)
        if exchange.endpoint:
            self.answered[exchange.endpoint, status] += 1
            self.recent.appendleft(past)
        log_refusal(past, exchange.target, code, param)

    def first_token(self, seconds: float) -> None:
        """An answer's first token came so long after its request."""
        self.first_token_times.note(seconds)
        self.history.first_token(seconds)

    @property
    def running(self) -> int:
        """Requests that the engine works on."""
        return len(self.open) - self.waiting

    @property
    def waiting(self) -> int:
        """Requests whose prompt is not being read yet."""
        return sum(exchange.state == "waiting" for exchange in self.open.values())

    def totals(self) -> Totals:
        """The sums, with those of open requests so far."""
        opened, sums = self.open.values(), self._engine.work.sums
        return Totals(
            requests=self.answered.total(),
            failed=sum(times for (_, status), times in self.answered.items() if _failed(status)),
            prompt_tokens=self._past_prompt_tokens + sum(one.prompt_tokens_read for one in opened),
            cached_tokens=self._past_cached_tokens + sum(one.cached_tokens for one in opened),
            generated_tokens=self._past_generated_tokens + sum(one.completion_tokens for one in opened),
            prefix_queries=sums.prefix_asked,
            prefix_hits=sums.prefix_found,
            draft_tokens=sums.drafted,
            accepted_tokens=sums.accepted,
            preemptions=sums.put_backs,
            engine_restarts=self._engine.work.restarts,
        )

    def sample(self) -> Sample:
        """For the history."""
        totals, sums = self.totals(), self._engine.work.sums
        self._waited += self.waiting
        self._samples += 1
        return Sample(
            prompt_tokens=totals.prompt_tokens - totals.cached_tokens,
            generated_tokens=totals.generated_tokens,
            token_seconds=self.token_times.sum,
            token_gaps=self.token_times.count,
            decode_rows=sums.decode_rows,
            decode_steps=sums.decode_steps,
            waiting=self._waited,
            samples=self._samples,
            prefix_found=sums.prefix_found,
            prefix_asked=sums.prefix_asked,
            accepted=sums.accepted,
            drafted=sums.drafted,
        )

    def prompt_of(self, exchange: Exchange) -> str | UnsetType:
        """The end of its prompt, where prompts are to be shown."""
        if not self._shows_prompts or self.tokenizer is None or not exchange.generations:
            return UNSET
        return self.tokenizer.decode(exchange.generations[0].prompt[-SHOWN_TOKENS:])[-SHOWN_CHARACTERS:]

    def _next_id(self) -> str:
        return next(number for number in (f"r-{n}" for n in self._numbers) if not self._is_taken(number))

    def _is_taken(self, number: str) -> bool:
        return number in self._present or number in self.open

    def _past(self, exchange: Exchange, status: int, finish: str, error: str) -> Past:
        return Past(
            exchange.id,
            exchange.endpoint,
            exchange.client,
            round(exchange.arrived, 3),
            round(exchange.seconds, 3),
            status,
            exchange.prompt_tokens,
            exchange.cached_tokens,
            exchange.completion_tokens,
            None if exchange.ttft is None else round(exchange.ttft, 4),
            round(exchange.tokens_per_second, 1),
            finish,
            error,
            self.prompt_of(exchange),
        )


def _finish(exchange: Exchange, status: int) -> str:
    """As OpenAI says it; where it was not finished, as vLLM does."""
    if status == 200:
        return exchange.finish
    return "error" if _failed(status) else "abort"


def _failed(status: int) -> bool:
    """Whether it was neither answered nor given up by somebody."""
    return status >= 400 and status not in (CLIENT_GONE, CANCELLED)
