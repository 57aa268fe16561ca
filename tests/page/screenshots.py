"""Takes the pictures of the page in docs/: `python -m tests.page.screenshots`.

Each section in both looks, on a desk and on a telephone, of two ranks under load.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.page.conftest import FLAGS, NARROW, WIDE
from tests.system.question import Question, ask_at_once, kept_busy
from tests.system.server import Server, start

DOCS = Path(__file__).parents[2] / "docs"
SECTIONS = ("cluster", "traffic", "chat", "connect")
SIZES = {"1440": WIDE, "390": NARROW}
QUESTION = "Write a Python function that adds two numbers."
LOAD = [Question(f"Tell me about {topic}.", 64) for topic in ("the sea", "a lighthouse", "bread", "a violin")]


def main() -> None:
    """Take them all."""
    DOCS.mkdir(exist_ok=True)
    server = start(2)
    try:
        server.wait_until("healthy")
        ask_at_once(server, LOAD)  # so that there is something to see at once
        with sync_playwright() as playwright, kept_busy(server, LOAD):
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            for look in ("light", "dark"):
                for width, size in SIZES.items():
                    take(browser, server, look, width, size)
            browser.close()
    finally:
        server.close()


def take(browser: Browser, server: Server, look: str, width: str, size: dict[str, int]) -> None:
    """One picture of each section."""
    context = browser.new_context(viewport=size, color_scheme=look, reduced_motion="reduce")
    page = context.new_page()
    for section in SECTIONS:
        page.goto(f"{server.url}/#{section}")
        expect(page.locator("#top-status")).to_have_attribute("data-status", "healthy")
        prepare(page, section)
        page.screenshot(path=DOCS / f"{section}-{look}-{width}.png")
    context.close()


def prepare(page: Page, section: str) -> None:
    """Wait until there is something to see."""
    if section == "chat":
        page.locator("#chat-input").fill(QUESTION)
        page.locator("#chat-input").press("Enter")
        expect(page.locator("#chat-stop")).to_be_visible()
        page.wait_for_timeout(8000)
        page.locator("#chat-stop").click()
    if section == "cluster":
        expect(page.locator('[data-rank="1"] [data-field="busy"]')).to_contain_text("%")
        page.wait_for_timeout(4000)
    if section == "traffic":
        expect(page.locator("#recent-requests tbody tr").first).to_be_visible()


if __name__ == "__main__":
    main()
