"""The section that shows what the server does for whom."""

from __future__ import annotations

import re
import threading

import httpx
import openai
import pytest
from playwright.sync_api import expect
from prometheus_client.parser import text_string_to_metric_families

from tests.system.question import Question, ask_each
from tests.system.server import Server

from .conftest import KEY, Visit, beside

PLOTS = 8
METRICS = {
    "failed": "mlxserve:requests_failed_total",
    "prompt_tokens": "vllm:prompt_tokens_total",
    "cached_tokens": "mlxserve:cached_prompt_tokens_total",
    "generated_tokens": "vllm:generation_tokens_total",
    "preemptions": "vllm:num_preemptions_total",
    "engine_restarts": "mlxserve:engine_restarts_total",
}


def measured(server: Server) -> dict[str, float]:
    """Every counter of /metrics, its labels added up."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(httpx.get(f"{server.url}/metrics").text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def test_numbers_are_those_of_the_metrics(visit: Visit, server: Server) -> None:
    page = visit(server, "traffic")
    beside(lambda: ask_each(server, [Question("What is the capital of France?", 8)] * 2))
    metrics = measured(server)
    for total, metric in METRICS.items():
        shown = page.locator(f'[data-total="{total}"]')
        expect(shown).to_have_attribute("data-value", f"{metrics[metric]:.0f}")
    assert metrics["vllm:generation_tokens_total"] >= 16
    recent = page.locator("#recent-requests tbody tr")
    expect(recent.first.locator('[data-column="Answer"]')).to_have_text("8")
    expect(recent.first.locator('[data-column="Endpoint"]')).to_have_text("/chat/completions")


def test_plots_are_drawn_of_minutes_and_of_the_day(visit: Visit, server: Server) -> None:
    page = visit(server, "traffic")
    expect(page.locator("#view-traffic canvas")).to_have_count(PLOTS)
    page.locator('[data-span="day"]').click()
    expect(page.locator('[data-span="day"]')).to_have_attribute("aria-current", "true")
    expect(page.locator("#view-traffic canvas")).to_have_count(PLOTS)


def test_each_plot_tells_its_latest_value(visit: Visit, server: Server) -> None:
    beside(lambda: ask_each(server, [Question("Say one and two and one and two and one and two.", 24)] * 2))
    page = visit(server, "traffic")
    values = page.locator("[data-plot-value]")
    expect(values).to_have_count(PLOTS)
    for name in ("generated_tokens_per_second", "prompt_tokens_per_second", "ttft", "inter_token", "prefix_hits"):
        value = page.locator(f'[data-plot-value="{name}"]')
        expect(value).to_have_text(re.compile(r"\d"))
        plot = page.locator(f'[data-plot="{name}"] .canvas')
        expect(plot).to_have_attribute("aria-label", re.compile(r"over the last 5 minutes: from \S+.* to \S+"))
    page.locator('[data-plot="ttft"] .u-over').hover()
    expect(page.locator('[data-plot="ttft"] .when')).to_have_text(re.compile(r"\d+:\d\d"))


def test_prompts_are_shown_where_that_is_switched_on_alone(visit: Visit, server: Server, locked: Server) -> None:
    words = "A sentence that nobody else says"
    for one, key, seen in ((server, "", 0), (locked, KEY, 1)):
        with one.client() as client:
            client.api_key = key or "none"
            client.chat.completions.create(
                model="demo", messages=[{"role": "user", "content": words}], max_tokens=2, temperature=0
            )
        page = visit(one, "traffic", faults=bool(key))
        if key:
            page.locator("#key-input").fill(key)
            page.get_by_role("button", name="Use this key").click()
        expect(page.locator("#recent-requests tbody tr").first).to_be_visible()
        expect(page.locator("#recent-requests .prompt", has_text=words)).to_have_count(seen)


def test_a_request_that_was_refused_is_told_with_its_reason(visit: Visit, server: Server) -> None:
    with server.client() as client, pytest.raises(openai.BadRequestError):
        client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": "x"}], temperature=0, max_tokens=-1
        )
    page = visit(server, "traffic")
    row = page.locator("#recent-requests tbody tr").first
    expect(row).to_have_attribute("data-failed", "")
    expect(row.locator(".verdict")).to_contain_text("400 ")
    expect(row.locator(".verdict")).to_contain_text("max_tokens")


def test_an_open_request_is_seen_and_cancelled(visit: Visit, server: Server) -> None:
    page = visit(server, "traffic")
    ended = threading.Event()

    def ask() -> None:
        with pytest.raises(openai.APIError, match="cancelled"):
            for _ in server.client().chat.completions.create(
                model="demo",
                messages=[{"role": "user", "content": "Count as far as you can."}],
                logit_bias={"2": -100},
                max_tokens=4000,
                stream=True,
            ):
                pass
        ended.set()

    asking = threading.Thread(target=ask)
    asking.start()
    row = page.locator("#open-requests tbody tr")
    expect(row).to_have_count(1)
    expect(row.locator(".state")).to_have_text("Writing")
    expect(row.locator('[data-column="Progress"]')).to_contain_text("answer")
    name = row.get_attribute("data-request")
    row.locator("[data-cancel]").click()
    expect(row).to_have_count(0)
    asking.join(10)
    assert ended.is_set()
    ended_row = page.locator(f'#recent-requests [data-request="{name}"]')
    expect(ended_row.locator('[data-column="Status"]')).to_contain_text("ancelled")
