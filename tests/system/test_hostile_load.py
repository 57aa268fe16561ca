"""Whatever some clients do, others are answered: as right, and nearly as soon."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median

import httpx

from tests.system.figures import open_files
from tests.system.hostile import BAD, SlowReader, answer, check, half, head, idle, leave
from tests.system.server import Server, start

PAUSE = 0.1
"""Seconds between bad requests: ten a second, a quarter of them megabytes."""
IDLE, SLOW, LEAVING, HALF_SENT = 300, 50, 20, 10
SLOW_TOKENS = 72
"""At some 2,000 bytes each: more than a socket's buffers and the server's take."""
DRIP = 16
"""Bytes that every other slow reader takes now and then."""
FEWEST_MEASURED = 9
MOST_TIMES_AS_LONG = 3.0
QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "temperature": 0}
TEXT = "The capital of France is Paris."


def test_hostile_clients_hold_nobody_up_and_leave_nothing_behind(own: Callable[[Server], Server]) -> None:
    """The model's work for hostile clients is done like anybody's, and would hold others up like anybody's.

    So that this measures what else they do, those that ask for much have had it computed when the clock starts, and
    only do not take it; those that leave come one after the other. Nothing is guessed: answers that come in few large
    pieces, as those that were given before do, might go into the sockets' buffers as a whole.
    """
    server = own(start(2, "--speculation", "off"))
    server.wait_until("healthy")
    asyncio.run(_under_attack(server))
    assert server.health()["status"] == "healthy"


async def _under_attack(server: Server) -> None:
    quiet = await _seconds(server)
    before = open_files(server)
    async with AsyncExitStack() as hostile:
        await hostile.enter_async_context(_slow_readers(server))
        await hostile.enter_async_context(_all_the_time(*(idle(server) for _ in range(IDLE))))
        halves = [await half(server, b"POST /v1/chat/comp") for _ in range(HALF_SENT)]
        halves += [await half(server, head(1000) + b'{"messages":') for _ in range(HALF_SENT)]
        leaving = asyncio.ensure_future(_leave_one_after_the_other(server))
        sending = asyncio.ensure_future(_send_all_that_is_bad(server, leaving.done))
        busy = await _seconds(server, lambda: not (leaving.done() and sending.done()))
        await asyncio.gather(leaving, sending)
        await _until(lambda: server.health()["open_requests"] == SLOW)  # what slow readers do not take lies there still
        print(f"a request takes {quiet:.2f} s when all is quiet, {busy:.2f} s under attack")
        assert busy <= MOST_TIMES_AS_LONG * quiet
        for reader, writer in halves[:HALF_SENT]:
            status, told = await answer(reader)
            assert (status, b"did not come in" in told) == (400, True)
            writer.close()
        for _, writer in halves[HALF_SENT:]:
            writer.close()
    await _until(lambda: server.health()["open_requests"] == 0)
    await _until(lambda: all(files <= before[pid] for pid, files in open_files(server).items()))
    assert open_files(server).keys() == before.keys(), "no process was started again"
    assert await _seconds(server) <= MOST_TIMES_AS_LONG * quiet


async def _seconds(server: Server, goes_on: Callable[[], bool] = lambda: False) -> float:
    """Median time of a request, over as long as it goes on; each gets its text."""
    taken: list[float] = []
    async with httpx.AsyncClient(base_url=server.url, timeout=120) as http:
        while len(taken) < FEWEST_MEASURED or goes_on():
            began = time.perf_counter()
            answer = await http.post("/v1/chat/completions", json=QUESTION | {"max_tokens": 12})
            taken.append(time.perf_counter() - began)
            assert answer.status_code == 200, answer.text
            assert answer.json()["choices"][0]["message"]["content"] == TEXT
    return median(taken[1:])


@asynccontextmanager
async def _slow_readers(server: Server) -> AsyncIterator[None]:
    """They are there when the model has done what they asked for; every other goes on to take a little."""
    readers = [SlowReader(server, SLOW_TOKENS) for _ in range(SLOW)]
    await _until(lambda: server.health()["open_requests"] == SLOW)
    idle_since, used = time.monotonic(), server.cpu_seconds()
    while time.monotonic() < idle_since + 1:
        await asyncio.sleep(0.2)
        if (now := server.cpu_seconds()) > used + 0.1:
            idle_since, used = time.monotonic(), now
    async with _all_the_time(_drip(readers[::2])):
        yield
    for reader in readers:
        reader.close()


async def _drip(readers: list[SlowReader]) -> None:
    for reader in itertools.cycle(readers):
        reader.take(DRIP)
        await asyncio.sleep(0.01)


@asynccontextmanager
async def _all_the_time(*doing: Awaitable[None]) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(one) for one in doing]
    yield
    for task in tasks:
        assert not task.done(), task
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _leave_one_after_the_other(server: Server) -> None:
    for _ in range(LEAVING):
        await leave(server)


async def _send_all_that_is_bad(server: Server, enough: Callable[[], bool]) -> None:
    """Once at least, and on until it is enough."""
    for number, name in enumerate(itertools.cycle(BAD), 1):
        await check(server, name)
        await asyncio.sleep(PAUSE)
        if number >= len(BAD) and enough():
            return


async def _until(holds: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
