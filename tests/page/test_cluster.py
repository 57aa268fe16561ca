"""The section that shows whether both machines work."""

from __future__ import annotations

import os
import re
import signal

from playwright.sync_api import expect

from tests.system.question import Question, ask_at_once
from tests.system.ranks import Ranks
from tests.system.server import Server, start

from .conftest import Visit, beside

RECOVERY = 60_000
"""Milliseconds."""


def test_each_rank_has_a_card(visit: Visit, server: Server) -> None:
    page = visit(server, "cluster")
    expect(page.locator("[data-rank]")).to_have_count(2)
    expect(page.locator('[data-figure="active-gpus"]')).to_have_text("2 of 2")
    expect(page.locator("#state-word")).to_have_text("Healthy")
    for rank, layers in ((0, "0–14 of 30"), (1, "15–29 of 30")):  # noqa: RUF001
        one = page.locator(f'[data-rank="{rank}"]')
        expect(one.locator('[data-field="layers"]')).to_have_text(layers)
        expect(one.locator('[data-field="device"]')).to_have_text(re.compile("cpu"))
        expect(one.locator('[data-field="link"]')).to_have_text(re.compile(r"[\d.]+ (µs|ms)"))
        expect(one.locator('[data-memory="weights"]')).to_have_text(re.compile(r"\d+ MB"))
        assert int(one.locator('[data-memory="weights"]').get_attribute("data-bytes") or 0) > 200e6


def test_work_is_seen_on_both(visit: Visit, server: Server) -> None:
    page = visit(server, "cluster")
    expect(page.locator("#state-word")).to_have_text("Healthy")
    beside(lambda: ask_at_once(server, [Question("Tell me about the sea.", 48)] * 2))
    for rank in (0, 1):
        busy = page.locator(f'[data-rank="{rank}"] [data-field="busy"]')
        expect(busy).not_to_have_text(re.compile(r"^0 %$|^–$"))  # noqa: RUF001


def test_a_killed_worker_is_seen_and_comes_back(visit: Visit, server: Server, ranks: Ranks) -> None:
    page = visit(server, "cluster", faults=True)
    state, worker = page.locator("#state"), page.locator('[data-rank="1"]')
    expect(state).to_have_attribute("data-status", "healthy")
    os.kill(ranks.engine(1), signal.SIGKILL)
    expect(state).to_have_attribute("data-status", "recovering")
    expect(page.locator("#state-word")).to_have_text("Recovering")
    expect(worker).not_to_have_attribute("data-status", "active")
    expect(page.locator("#top-status")).to_have_attribute("data-status", "recovering")
    expect(state).to_have_attribute("data-status", "healthy", timeout=RECOVERY)
    expect(worker).to_have_attribute("data-status", "active")
    expect(page.locator('[data-figure="active-gpus"]')).to_have_text("2 of 2")


def test_a_server_that_does_not_answer_is_told_and_found_again(visit: Visit, server: Server) -> None:
    page = visit(server, "cluster", faults=True)
    state = page.locator("#state")
    expect(state).to_have_attribute("data-status", "healthy")
    page.context.set_offline(True)
    expect(state).to_have_attribute("data-status", "unreachable")
    page.context.set_offline(False)
    expect(state).to_have_attribute("data-status", "healthy")


def test_a_server_that_loads_is_seen_to(visit: Visit) -> None:
    server = start(1)
    try:
        server.wait_until("loading")
        page = visit(server, "cluster", faults=True)
        state = page.locator("#state")
        expect(state).to_have_attribute("data-status", re.compile("loading|healthy"))
        expect(page.locator("#state-reason")).not_to_be_empty()
        expect(state).to_have_attribute("data-status", "healthy", timeout=RECOVERY)
        expect(page.locator('[data-figure="active-gpus"]')).to_have_text("1 of 1")
        expect(page.locator('[data-figure="backend"]')).to_have_text("one machine")
    finally:
        server.close()
