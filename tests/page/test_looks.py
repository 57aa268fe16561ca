"""How the page looks: in light and dark, on a desk and on a telephone; and for those who do not see it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.clients.conftest import HERE as CLIENTS
from tests.system.server import Server

from .conftest import NARROW, WIDE, Visit

AXE = CLIENTS / "node_modules" / "axe-core" / "axe.min.js"
SECTIONS = ["cluster", "traffic", "chat", "connect"]
BAD = {"serious", "critical"}


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("section", SECTIONS)
def test_nothing_keeps_anybody_out(visit: Visit, server: Server, section: str, size: dict[str, int], look: str) -> None:
    page = visit(server, section, viewport=size, color_scheme=look, reduced_motion="reduce")
    expect(page.locator(f"#view-{section}")).to_be_visible()
    expect(page.locator("#top-status")).to_have_attribute("data-status", "healthy")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    page.evaluate(_axe())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    faults = [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found if one["impact"] in BAD]
    assert not faults, json.dumps(faults, indent=1)


def test_a_look_that_was_chosen_stays(visit: Visit, server: Server) -> None:
    page = visit(server, "cluster", color_scheme="light")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    chosen = page.evaluate("getComputedStyle(document.body).backgroundColor")
    if chosen == before:  # from the system's look to the light one, which is the same here
        page.locator("#theme").click()
        chosen = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert chosen != before
    page.reload()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == chosen


def test_all_sections_are_reached_by_keyboard(visit: Visit, server: Server) -> None:
    page = visit(server, "cluster")
    for section in SECTIONS[1:]:
        page.locator(f'[data-tab="{section}"]').focus()
        page.keyboard.press("Enter")
        expect(page.locator(f"#view-{section}")).to_be_visible()
        expect(page.locator("#view-cluster")).to_be_hidden()


def _axe() -> str:
    if not AXE.is_file():
        missing = "axe-core is not installed: `make test` installs it where there is Node"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return Path(AXE).read_text()
