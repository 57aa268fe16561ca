"""What /traffic, /requests and /metrics tell of a real server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import Shared
from tests.system.server import Server
from tests.system.test_chat import QUESTION, ask_streamed


def told(server: Server, path: str = "/traffic") -> dict[str, Any]:
    return dict(httpx.get(f"{server.url}{path}", timeout=5).json())


def told_when_settled(server: Server) -> dict[str, Any]:
    """When the engine has told what it did for the last request."""
    deadline = time.monotonic() + 15
    seen: dict[str, Any] = {}
    while (now := told(server)["totals"]) != seen or time.monotonic() < deadline - 12:
        assert time.monotonic() < deadline
        seen = now
        time.sleep(0.5)
    return told(server)


@pytest.mark.parametrize("ranks", [1, 2])
def test_every_rank_tells_where_its_memory_is(shared: Shared, ranks: int) -> None:
    server = shared(ranks)
    for _ in range(2):
        ask_streamed(server)
    traffic = told_when_settled(server)
    assert [rank["rank"] for rank in traffic["ranks"]] == list(range(ranks))
    for rank in traffic["ranks"]:
        memory = rank["memory"]
        assert memory["weights"] > 10_000_000
        assert memory["prefix"] > 0, "the prompt is stored"
        assert memory["kv"] == 0, "nothing runs"
        assert 0 < memory["free"] < memory["total"]
        assert rank["progress"] == ""
    assert traffic["ranks"][-1]["layers"][1] == traffic["layers"] - 1
    totals = traffic["totals"]
    assert totals["prefix_queries"] > totals["prefix_hits"] > 0, "the second prompt was found"


def test_the_link_of_two_ranks_is_measured_while_it_is_used(shared: Shared) -> None:
    server = shared(2)
    seen = [told(server, "/traffic?day=0") for _ in stream(server, 200)]
    assert any(one["flow"]["decode_steps"] > 0 for one in seen)
    assert any(one["ranks"][0]["memory"]["kv"] > 0 and one["ranks"][1]["memory"]["kv"] > 0 for one in seen)
    first, second = max(seen, key=lambda one: one["ranks"][0]["link"]["bytes_per_second"])["ranks"]
    assert (first["link"]["to"], second["link"]["to"]) == (1, 0)
    assert 0 < first["link"]["latency"] < 0.5
    assert first["link"]["bytes_per_second"] > 0
    assert 0 < second["busy"] <= 1


def test_metrics_and_traffic_tell_the_same(shared: Shared) -> None:
    server = shared(2)
    ask_streamed(server)
    totals = told_when_settled(server)["totals"]
    metrics = {
        sample.name: sample.value
        for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text)
        for sample in family.samples
    }
    assert metrics["vllm:prompt_tokens_total"] == totals["prompt_tokens"] > 0
    assert metrics["vllm:generation_tokens_total"] == totals["generated_tokens"] > 0
    assert metrics["vllm:prefix_cache_queries_total"] == totals["prefix_queries"] > 0
    assert metrics["vllm:prefix_cache_hits_total"] == totals["prefix_hits"]


def test_an_answer_that_is_cancelled_ends_and_the_next_one_is_given(shared: Shared) -> None:
    server = shared(2)
    chunks = stream(server, 400)
    next(chunks)
    [request] = told(server, "/requests")["open"]
    assert httpx.post(f"{server.url}/requests/{request['id']}/cancel").json() == {"cancelled": True}
    with pytest.raises(Exception, match="cancelled"):
        list(chunks)
    assert ask_streamed(server) == "The capital of France is Paris."
    assert [one["status"] for one in told(server, "/requests")["recent"][:2]] == [200, 410]


def stream(server: Server, tokens: int) -> Iterator[Any]:
    """An answer of so many tokens: it cannot end before."""
    question: Any = QUESTION
    yield from server.client().chat.completions.create(
        model="demo", messages=question, max_tokens=tokens, stream=True, logit_bias={"0": -100, "2": -100}
    )
