"""The section that shows whether both machines work."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from playwright.sync_api import Locator, Route, expect

from tests.ports import free_port
from tests.system.question import Question, ask_at_once, kept_busy
from tests.system.ranks import Ranks
from tests.system.server import BareRank, Server, start, write_hostfile

from .conftest import Visit, beside

RECOVERY = 60_000
"""Milliseconds."""
MEMORY = ("weights", "kv", "prefix", "cache", "other", "free")
LONG = [Question(f"{number}: " + "tell me about the sea. " * 40, 16) for number in range(3)]


def bytes_of(shown: Locator) -> int:
    """The number behind a size that is shown in words."""
    return int(shown.get_attribute("data-bytes") or -1)


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
        expect(one.locator('[data-field="expected"]')).to_have_text(re.compile(r"[\d.]+ (µs|ms)"))
        expect(one.locator('[data-memory="weights"]')).to_have_text(re.compile(r"\d+ MB"))
        assert int(one.locator('[data-memory="weights"]').get_attribute("data-bytes") or 0) > 200e6


def test_work_is_seen_on_both(visit: Visit, server: Server) -> None:
    page = visit(server, "cluster")
    expect(page.locator("#state-word")).to_have_text("Healthy")
    beside(lambda: ask_at_once(server, [Question("Tell me about the sea.", 48)] * 2))
    for rank in (0, 1):
        busy = page.locator(f'[data-rank="{rank}"] [data-field="busy"]')
        expect(busy).not_to_have_text(re.compile(r"^0 %$|^–$"))  # noqa: RUF001


def test_what_flows_is_seen_while_it_flows(visit: Visit, server: Server) -> None:
    page = visit(server, "cluster")
    flow, steps = page.locator("section.flow"), page.locator('[data-flow="decode_steps"]')
    expect(flow.locator(".stations li")).to_have_count(2)
    expect(steps).to_have_text("nothing is written")
    with kept_busy(server, LONG):
        expect(flow.locator(".lane i.step")).not_to_have_count(0)
        expect(steps).to_have_text(re.compile(r"^[\d.]+ decode steps/s, [\d.]+ answers each$"))
        expect(flow.locator(".lane i.chunk")).not_to_have_count(0)
        expect(page.locator('[data-flow="chunks"]')).to_have_text(
            re.compile(r"^[\d.]+ prompt chunks/s, [\d.]+ tokens each$")
        )
        for figure in ("generated-rate", "prompt-rate", "open-requests"):
            expect(page.locator(f'[data-figure="{figure}"]')).to_have_text(re.compile("[1-9]"))
        for rank in (0, 1):
            expect(page.locator(f'[data-rank="{rank}"] [data-field="link-traffic"]')).to_have_text(
                re.compile(r"[1-9]\S* [kM]B/s")
            )
    expect(steps).to_have_text("nothing is written")
    expect(flow.locator(".lane i")).to_have_count(0)


def test_the_flow_stands_still_for_those_who_wish_that(visit: Visit, server: Server) -> None:
    page = visit(server, "cluster", reduced_motion="reduce")
    with kept_busy(server, LONG):
        expect(page.locator('[data-flow="decode_steps"]')).to_have_text(re.compile("answers each"))
        assert page.locator(".lane i").count() == 0


def test_what_fills_each_memory_is_told_in_parts(visit: Visit, server: Server) -> None:
    page = visit(server, "cluster")
    expect(page.locator("#state-word")).to_have_text("Healthy")
    cards = [page.locator(f'[data-rank="{rank}"]') for rank in (0, 1)]
    ranks = [{part: card.locator(f'[data-memory="{part}"]') for part in MEMORY} for card in cards]
    with kept_busy(server, LONG):
        for parts in ranks:
            expect(parts["kv"]).to_have_text(re.compile("[1-9]"))
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for card, parts in zip(cards, ranks, strict=True):
        expect(parts["kv"]).to_have_attribute("data-bytes", "0")
        expect(parts["prefix"]).to_have_text(re.compile("[1-9]"))  # what was asked is kept
        told = sum(bytes_of(shown) for shown in parts.values())
        assert abs(told - machine) < 0.01 * machine, (told, machine)
        assert all(bytes_of(parts[part]) > 0 for part in ("weights", "other", "free"))
        expect(card.locator(".stack")).to_have_attribute("aria-label", re.compile("Weights .* KV cache .* Free "))


def test_figures_are_those_of_health(visit: Visit, server: Server) -> None:
    page = visit(server, "cluster")
    health = server.health()
    expect(page.locator("#top-model")).to_have_text("demo")
    expect(page.locator('[data-figure="layers"]')).to_have_text("30")
    expect(page.locator('[data-figure="context"]')).to_have_text(f"{health['context_length']:,} tokens")
    expect(page.locator('[data-figure="parallel"]')).to_have_text("pipeline")
    expect(page.locator('[data-figure="backend"]')).to_have_text("ring")
    expect(page.locator('[data-figure="open-requests"]')).to_have_text("0")
    for rank in (0, 1):
        card = page.locator(f'[data-rank="{rank}"]')
        expect(card.locator('[data-field="pid"]')).to_have_text(re.compile(r"^\d+$"))
        expect(card.locator('[data-field="host"]')).not_to_be_empty()
        expect(card.locator('[data-field="link"]')).to_be_visible()


def test_how_far_each_rank_has_come_is_seen_while_they_load(visit: Visit, server: Server) -> None:
    page = visit(server, "cluster", faults=True)
    told = {0: "reading layers 3/15", 1: "rank 0 gives 20 MB of 80 MB"}

    def loading(route: Route) -> None:
        report = route.fetch().json()
        report["status"] |= {"status": "loading", "reason": "the ranks load the model"}
        for rank in report["ranks"]:
            rank["progress"] = told[rank["rank"]]
        route.fulfill(json=report)

    expect(page.locator("#state-word")).to_have_text("Healthy")
    page.route("**/traffic?*", loading)
    expect(page.locator("#state-word")).to_have_text("Loading")
    expect(page.locator("#state-reason")).to_have_text("the ranks load the model")
    for rank, width in ((0, 20), (1, 25)):
        card = page.locator(f'[data-rank="{rank}"]')
        expect(card).to_have_attribute("data-status", "loading")
        progress = card.locator('[data-field="progress"]')
        expect(progress.locator("p")).to_have_text(told[rank])
        expect(progress.locator(".bar span")).to_have_attribute("style", re.compile(f"width: {width}%"))
    page.unroute("**/traffic?*")
    expect(page.locator("#state-word")).to_have_text("Healthy")


def test_ranks_that_have_shares_of_every_layer_say_so(visit: Visit, server: Server) -> None:
    page = visit(server, "cluster", faults=True)

    def shared(route: Route) -> None:
        route.fulfill(json=route.fetch().json() | {"parallel": "tensor"})

    page.route("**/health", shared)
    page.reload()
    for rank in (0, 1):
        expect(page.locator(f'[data-rank="{rank}"] [data-field="layers"]')).to_have_text("a share of all 30")


def test_a_server_without_one_of_its_ranks_says_so(visit: Visit, tmp_path: Path) -> None:
    hostfile = write_hostfile(tmp_path, 2)
    server = BareRank(0, hostfile, free_port(), "--min-ranks", "1", "--form-timeout", "2")
    try:
        server.wait_until("degraded")
        page = visit(server, "cluster", faults=True)
        expect(page.locator("#state")).to_have_attribute("data-status", "degraded")
        expect(page.locator("#state-word")).to_have_text("Degraded")
        expect(page.locator("#state-reason")).to_contain_text("without rank 1")
        expect(page.locator('[data-figure="active-gpus"]')).to_have_text("1 of 2")
        expect(page.locator('[data-rank="1"]')).to_have_attribute("data-status", "missing")
        expect(page.locator('[data-rank="0"] [data-field="layers"]')).to_have_text("0–29 of 30")  # noqa: RUF001
    finally:
        server.close()


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
