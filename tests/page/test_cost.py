"""What open pages take from a server."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from tests.system.server import TICKS, Server

from .conftest import Visit

PAGES = 5
SECONDS = 10
MOST = 0.01
"""Of a core."""


def node_seconds(server: Server) -> float:
    """CPU time that rank 0's node has used: what pages ask is answered by it alone."""
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def test_five_open_pages_cost_less_than_a_hundredth_of_a_core(visit: Visit, server: Server) -> None:
    pages = [visit(server, section) for section in ("cluster", "traffic", "cluster", "traffic", "chat")]
    assert len(pages) == PAGES
    for page in pages:
        expect(page.locator("#top-status")).to_have_attribute("data-status", "healthy")
    before = node_seconds(server)
    pages[0].wait_for_timeout(SECONDS * 1000)
    share = (node_seconds(server) - before) / SECONDS
    print(f"{PAGES} pages: {share:.2%} of a core")
    assert share < MOST
