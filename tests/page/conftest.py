"""The page in a real browser, before a real server of two ranks."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TypeVar
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from tests.system.ranks import Ranks
from tests.system.server import Server, start

KEY = "a-secret-key"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDE, NARROW = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
PATIENCE = 20_000
"""Milliseconds that something may take to be seen."""

Visit = Callable[..., Page]
Result = TypeVar("Result")
expect.set_options(timeout=PATIENCE)


def beside(work: Callable[[], Result]) -> Result:
    """What `work` returns, done by another thread: Playwright has an event loop in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def copied(page: Page) -> str:
    """What is on the clipboard."""
    return str(page.evaluate("navigator.clipboard.readText()"))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or what `playwright install chromium` has brought.

    Ended with this folder's tests: as long as Playwright runs, this thread is one of an event loop.
    """
    installed = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        if not installed and not os.path.exists(playwright.chromium.executable_path):
            missing = "there is no Chromium: run build/testbed.sh, or `playwright install chromium`"
            pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
        browser = playwright.chromium.launch(executable_path=installed, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ranks]:
    """Two ranks, each with a node of its own. Tests must leave them serving."""
    ranks = Ranks(tmp_path_factory.mktemp("ranks"), 2)
    ranks[0].wait_until("healthy")
    yield ranks
    ranks.close()


@pytest.fixture
def server(ranks: Ranks) -> Server:
    """Rank 0's node, healthy."""
    ranks[0].wait_until("healthy")
    return ranks[0]


@pytest.fixture(scope="package")
def locked() -> Iterator[Server]:
    """A server that asks for a key, and shows what it is asked."""
    server = start(1, "--api-key", KEY, "--log-prompts")
    server.wait_until("healthy")
    yield server
    server.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens a page of a server. All that the page asks for must be the server's own, and nothing may go wrong in it."""
    visits: list[Watched] = []
    with ExitStack() as contexts:

        def open_page(server: Server, section: str = "", faults: bool = False, **options: object) -> Page:
            context = browser.new_context(
                **{"viewport": WIDE, "permissions": ["clipboard-read", "clipboard-write"], **options}
            )
            contexts.callback(context.close)
            page = context.new_page()
            page.set_default_timeout(PATIENCE)
            visits.append(Watched(page, server.url, faults))
            page.goto(f"{server.url}/#{section}")
            return page

        yield open_page
        for one in visits:
            one.check()


class Watched:
    """What a page has asked for, and complained of."""

    def __init__(self, page: Page, origin: str, faults: bool) -> None:
        """`faults`: whether requests are to fail, so that the browser complains of them."""
        self._origin = origin
        self._faults = faults
        self._asked: list[Request] = []
        self._complaints: list[str] = []
        page.on("request", lambda request: self._asked.append(request))
        page.on("pageerror", lambda error: self._complaints.append(str(error)))
        page.on("console", lambda message: self._complaints.append(message.text) if message.type == "error" else None)

    def check(self) -> None:
        foreign = [one.url for one in self._asked if not one.url.startswith((f"{self._origin}/", "data:", "blob:"))]
        assert not foreign, foreign
        assert {urlsplit(one.url).netloc for one in self._asked} - {""} <= {urlsplit(self._origin).netloc}
        complaints = [text for text in self._complaints if not (self._faults and "Failed to load resource" in text)]
        assert not complaints, complaints
