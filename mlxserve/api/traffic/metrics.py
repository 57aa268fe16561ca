"""GET /metrics: the account as Prometheus reads it, by vLLM's names where they mean the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import get_args

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from mlxserve.api.serving import Serving, serving_of
from mlxserve.api.traffic.account import Totals
from mlxserve.api.traffic.ranks import RankTraffic, ranks_of
from mlxserve.api.traffic.spread import Spread
from mlxserve.engine.client import Status
from mlxserve.engine.messages import MemoryFacts

PLAIN_TEXT = "text/plain"
OPEN_METRICS = "application/openmetrics-text"
MODEL = "model_name"
FINISHES = ("stop", "length", "abort", "error")
STATUSES = (*get_args(Status), "draining")


class Exposition(Collector):
    """Tells the numbers of the account and of the engine when they are asked for; it keeps none itself."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._account = serving.account

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        totals = self._account.totals()
        yield from self._requests(totals)
        yield from self._tokens(totals)
        yield from self._times()
        yield from self._engine()
        yield from self._ranks()

    def _requests(self, totals: Totals) -> Iterator[Metric]:
        account = self._account
        yield self._gauge("vllm:num_requests_running", "Requests that the engine works on.", account.running)
        yield self._gauge("vllm:num_requests_waiting", "Requests whose prompt waits to be read.", account.waiting)
        finished = self._counters(
            "vllm:request_success", "Requests whose answer was begun, by its end.", "finished_reason"
        )
        for reason in FINISHES:
            finished.add_metric([self._serving.name, reason], account.finished[reason])
        yield finished
        answered = self._counters("mlxserve:requests", "Requests, by address and status.", "endpoint", "status")
        for (endpoint, status), times in account.answered.items():
            answered.add_metric([self._serving.name, endpoint, str(status)], times)
        yield answered
        yield self._counter("mlxserve:requests_failed", "Requests that were refused or failed.", totals.failed)

    def _tokens(self, totals: Totals) -> Iterator[Metric]:
        for name, text, value in (
            ("vllm:prompt_tokens", "Prompt tokens that were read or found in the cache.", totals.prompt_tokens),
            ("mlxserve:cached_prompt_tokens", "Those found in the cache.", totals.cached_tokens),
            ("vllm:generation_tokens", "Tokens that were generated.", totals.generated_tokens),
            ("vllm:prefix_cache_queries", "Tokens that were looked for in the prefix cache.", totals.prefix_queries),
            ("vllm:prefix_cache_hits", "Tokens that were found in it.", totals.prefix_hits),
            ("vllm:spec_decode_num_draft_tokens", "Tokens that were guessed.", totals.draft_tokens),
            ("vllm:spec_decode_num_accepted_tokens", "Guessed tokens that were right.", totals.accepted_tokens),
            ("vllm:num_preemptions", "Answers that were put back for want of memory.", totals.preemptions),
        ):
            yield self._counter(name, text, value)

    def _times(self) -> Iterator[Metric]:
        account = self._account
        for name, text, spread in (
            ("vllm:time_to_first_token_seconds", "From a request to its first token.", account.first_token_times),
            ("vllm:inter_token_latency_seconds", "Between two tokens of an answer.", account.token_times),
            ("vllm:e2e_request_latency_seconds", "From a request to its end.", account.request_times),
            ("vllm:request_queue_time_seconds", "From a request to when its prompt is read.", account.queue_times),
        ):
            yield self._histogram(name, text, spread)

    def _engine(self) -> Iterator[Metric]:
        work, (now, _) = self._serving.engine.work, self._serving.status()
        yield self._gauge("vllm:kv_cache_usage_perc", "Share of the memory for running answers, 0 to 1.", work.kv_share)
        sums = work.sums
        for name, text, value in (
            ("mlxserve:decode_steps", "Decode steps.", sums.decode_steps),
            ("mlxserve:decode_rows", "Answers that decode steps went on with.", sums.decode_rows),
            ("mlxserve:prompt_chunks", "Chunks of prompts that were read.", sums.chunks),
            ("mlxserve:engine_restarts", "Engines that were started after another.", work.restarts),
        ):
            yield self._counter(name, text, value)
        status = self._gauges("mlxserve:status", "1 for how the server is.", "status")
        for one in STATUSES:
            status.add_metric([self._serving.name, one], float(one == now))
        yield status

    def _ranks(self) -> Iterator[Metric]:
        ranks = ranks_of(self._serving.engine, self._serving.settings.place)
        memory = self._gauges("mlxserve:rank_memory_bytes", "Memory of a rank's machine.", "rank", "host", "kind")
        for one in ranks:
            for kind in MemoryFacts.__struct_fields__:
                memory.add_metric([*self._place(one), kind], getattr(one.memory, kind))
        yield memory
        gauge = partial(self._of_ranks, ranks)
        yield gauge("mlxserve:rank_up", "1 for a rank that is there.", [float(bool(one.pid)) for one in ranks])
        yield gauge("mlxserve:rank_busy_ratio", "Share of the time in which it computes.", [one.busy for one in ranks])
        yield gauge("mlxserve:rank_tokens_per_second", "Through it.", [one.tokens_per_second for one in ranks])
        latencies = [one.link.latency or 0.0 for one in ranks]
        yield gauge("mlxserve:rank_link_latency_seconds", "Of the quickest exchange lately.", latencies)
        carried = [one.link.bytes_per_second for one in ranks]
        yield gauge("mlxserve:rank_link_bytes_per_second", "What it gives to the next rank.", carried)

    def _of_ranks(self, ranks: list[RankTraffic], name: str, text: str, values: Iterable[float]) -> Metric:
        family = self._gauges(name, text, "rank", "host")
        for one, value in zip(ranks, values, strict=True):
            family.add_metric(self._place(one), value)
        return family

    def _place(self, rank: RankTraffic) -> list[str]:
        return [self._serving.name, str(rank.rank), rank.host]

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        family = self._gauges(name, text)
        family.add_metric([self._serving.name], value)
        return family

    def _counter(self, name: str, text: str, value: float) -> Metric:
        family = self._counters(name, text)
        family.add_metric([self._serving.name], value)
        return family

    def _gauges(self, name: str, text: str, *labels: str) -> GaugeMetricFamily:
        return GaugeMetricFamily(name, text, labels=[MODEL, *labels])

    def _counters(self, name: str, text: str, *labels: str) -> CounterMetricFamily:
        return CounterMetricFamily(name, text, labels=[MODEL, *labels])

    def _histogram(self, name: str, text: str, spread: Spread) -> Metric:
        family = HistogramMetricFamily(name, text, labels=[MODEL])
        family.add_metric([self._serving.name], spread.buckets, spread.sum)
        return family


async def metrics(http: Request) -> Response:
    """GET /metrics: in Prometheus' text format, or in OpenMetrics' where that is asked for."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Exposition(serving_of(http)))
    encode, kind = choose_encoder(http.headers.get("accept", ""))
    return Response(encode(registry), headers={"Cache-Control": "no-store", "Content-Type": kind})
