"""What open pages take from a server."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.system.server import Server, cpu_seconds_of

from .conftest import Visit

PAGES = 5
SECONDS = 10
MOST = 0.01
"""Of a core, of rank 0's node: what pages ask is answered by it alone."""


def test_five_open_pages_cost_less_than_a_hundredth_of_a_core(visit: Visit, server: Server) -> None:
    pages = [visit(server, section) for section in ("cluster", "traffic", "cluster", "traffic", "chat")]
    assert len(pages) == PAGES
    for page in pages:
        expect(page.locator("#top-status")).to_have_attribute("data-status", "healthy")
    before = cpu_seconds_of(server.process.pid)
    pages[0].wait_for_timeout(SECONDS * 1000)
    share = (cpu_seconds_of(server.process.pid) - before) / SECONDS
    print(f"{PAGES} pages: {share:.2%} of a core")
    assert share < MOST
