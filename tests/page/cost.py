"""`python -m tests.page.cost`: what open pages cost a loaded server of two ranks, in tokens per second.

What five pages ask for is first learnt from a browser, then asked again without one, whose own work would count as
well. Times with and without take turns, since a shared machine's speed drifts by more than a hundredth. A crowd of
twenty times as many pages is measured, too: what it costs stands out of that noise, and five cost a twentieth of it.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean, stdev
from urllib.parse import urlsplit

from playwright.sync_api import expect, sync_playwright

from tests.system.question import Question, ask_all
from tests.system.server import Server, start

from .conftest import FLAGS

SECTIONS = ("cluster", "traffic", "cluster", "traffic", "chat")
CROWD = 20
LEARNT_SECONDS = 30.0
STREAMS = 8
TOKENS = 400
CERTAIN = 1.96
"""Standard errors to either side of a mean that hold it in 95 of 100 cases: what is called sure here."""
REQUEST = "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n"


@dataclass(frozen=True)
class Asked:
    """A request of a page."""

    second: float
    path: str


class Load:
    """Streams that are always open. Counts the pieces that come."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._ended = threading.Event()
        self.pieces = 0

    def run(self) -> None:
        """Until `end`."""
        asyncio.run(self._streams())

    def end(self) -> None:
        self._ended.set()

    async def _streams(self) -> None:
        async with self._server.async_client() as client:
            numbers = iter(range(10**9))

            async def stream() -> None:
                while not self._ended.is_set():
                    await ask_all(client, [Question(f"{next(numbers)}: tell me of the sea.", TOKENS)], self._count)

            await asyncio.gather(*(stream() for _ in range(STREAMS)))

    def _count(self) -> None:
        self.pieces += 1


def learn(server: Server) -> list[Asked]:
    """What pages open at each of SECTIONS ask for once they are there."""
    asked: list[Asked] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        pages = [browser.new_context().new_page() for _ in SECTIONS]
        for page, section in zip(pages, SECTIONS, strict=True):
            page.goto(f"{server.url}/#{section}")
            expect(page.locator("#top-status")).to_have_attribute("data-status", "healthy")
        begun = time.monotonic()
        for page in pages:
            page.on("request", lambda request: asked.append(Asked(time.monotonic() - begun, path_of(request.url))))
        pages[0].wait_for_timeout(1000 * LEARNT_SECONDS)
        browser.close()
    return [one for one in asked if one.second < LEARNT_SECONDS]


def path_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


@contextmanager
def asking(server: Server, asked: list[Asked], times: int) -> Iterator[None]:
    """Meanwhile, `times` as many pages ask as were learnt from, each group of them at a time of its own."""
    ended = threading.Event()
    shifts = [random.uniform(0, LEARNT_SECONDS) for _ in range(times)]
    due = sorted(((one.second + shift) % LEARNT_SECONDS, one.path) for one in asked for shift in shifts)

    def ask() -> None:
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            for second, path in due:
                if ended.wait(max(0.0, begun + second - time.monotonic())):
                    return
                connection.sendall(REQUEST.format(path=path).encode())
                take_answer(connection)

    asker = threading.Thread(target=ask)
    if times:
        asker.start()
    try:
        yield
    finally:
        ended.set()
        if times:
            asker.join()


def take_answer(connection: socket.socket) -> None:
    """Read one answer, whatever it says."""
    head, found = b"", -1
    while found < 0:
        head += connection.recv(1 << 18)
        found = head.find(b"\r\n\r\n")
    body = head[found + 4 :]
    lines = head[:found].decode().lower().split("\r\n")
    (length,) = (int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
    left = length - len(body)
    while left > 0:
        left -= len(connection.recv(1 << 18))


def rate(server: Server, load: Load, asked: list[Asked], times: int, seconds: float) -> float:
    """Pieces of answers per second for so long, while `times` groups of pages ask."""
    with asking(server, asked, times):
        before, begun = load.pieces, time.perf_counter()
        time.sleep(seconds)
        return (load.pieces - before) / (time.perf_counter() - begun)


def told(times: int, ratios: list[float]) -> str:
    """What so many groups of pages cost by the mean of `ratios`, and how sure that is."""
    logs = [math.log(ratio) for ratio in ratios]
    mean, error = fmean(logs), stdev(logs) / math.sqrt(len(logs))
    low, high = (1 - math.exp(mean + sign * CERTAIN * error) for sign in (1, -1))
    pages = len(SECTIONS)
    line = f"{times * pages} pages cost {1 - math.exp(mean):+.2%} of the tokens/s, surely {low:+.2%} to {high:+.2%}"
    return line if times == 1 else f"{line}; {pages} of them at most {high / times:.2%}"


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.page.cost", description=__doc__)
    parser.add_argument("--pairs", type=int, default=60, help="times with and without each number of pages")
    parser.add_argument("--seconds", type=float, default=3.0, help="that each time lasts")
    arguments = parser.parse_args()
    server = start(2)
    try:
        server.wait_until("healthy")
        asked = learn(server)
        print(f"{len(SECTIONS)} pages asked {len(asked) / LEARNT_SECONDS:.1f} times a second")
        load = Load(server)
        loading = threading.Thread(target=load.run)
        loading.start()
        ratios: dict[int, list[float]] = {1: [], CROWD: []}
        for _ in range(arguments.pairs):
            for times, found in ratios.items():
                order = [0, times] if random.random() < 0.5 else [times, 0]
                rates = {each: rate(server, load, asked, each, arguments.seconds) for each in order}
                found.append(rates[times] / rates[0])
        for times, found in ratios.items():
            print(told(times, found))
        load.end()
        loading.join()
    finally:
        server.close()


if __name__ == "__main__":
    main()
