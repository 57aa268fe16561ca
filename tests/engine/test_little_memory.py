"""However little memory there is for KV caches, everything that was let in ends, with the tokens it gets alone."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxserve.engine import decoding, memory
from mlxserve.engine.memory import GROWTH, Bound, Ledger
from mlxserve.engine.messages import Sampling
from mlxserve.engine.scheduler import Scheduler
from mlxserve.pipeline import row_cache
from tests.engine.tiny import FOOTPRINT, Log, Priced, alone, scheduler, submit, works

STEP = 16
"""Tokens by which caches grow here, so that few make a difference."""
ROW_BYTES = int(STEP * FOOTPRINT.token_bytes * GROWTH) + 1
"""What the shortest row takes at most."""
MOST_IDLE_STEPS = 8
"""In a row, without anything that enters: what has entered needs no more to leave the last rank."""
MOST_PASSES = 5000
"""Several times what has been seen to be needed."""

Request = tuple[int, int, int]
"""Number, tokens of the prompt, tokens of the answer."""


@pytest.fixture(autouse=True, scope="module")
def _caches_grow_by_few_tokens() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_cache, "STEP", STEP)
        patch.setattr(memory, "STEP", STEP)
        patch.setattr(decoding, "_SPARE_FOR", 3)
        yield


def prompt(number: int, length: int) -> list[int]:
    """Those of the same remainder begin alike."""
    return [(7 * place + number % 3) % 500 for place in range(length - 1)] + [number]


def sampling(number: int) -> Sampling:
    return Sampling(seed=number, temperature=number % 2)


@cache
def expected(number: int, length: int, tokens: int) -> list[int]:
    return alone(submit(number, prompt(number, length), tokens, sampling(number)))


def end(log: Log, busy: Scheduler) -> None:
    """Steps until nothing is left to do, which must come."""
    idle = 0
    while busy.busy:
        before = len(works(busy))
        assert before < MOST_PASSES, "those that were put back read the same again and again"
        log.step(busy)
        idle = 0 if len(works(busy)) > before else idle + 1
        assert idle <= MOST_IDLE_STEPS, "it waits for something that will not come"


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_everything_ends_in_however_little_memory(data: st.DataObject) -> None:
    kv_bytes = data.draw(st.integers(2, 16), "half rows") * ROW_BYTES // 2 + data.draw(st.integers(0, 50), "bytes")
    longest = Ledger([Bound(FOOTPRINT, kv_bytes)]).longest
    assert longest >= STEP - 1
    busy = scheduler(
        batchable=data.draw(st.sampled_from([True, True, False]), "batchable"),
        chunk=data.draw(st.sampled_from([4, 16, 64]), "chunk"),
        rows=data.draw(st.integers(1, 6), "rows"),
        pace=Priced(data.draw(st.sampled_from([1, 1, 2, 3]), "ranks"), data.draw(st.sampled_from([0.0, 1.0]), "cost")),
        kv_bytes=kv_bytes,
        prefix_bytes=data.draw(st.sampled_from([0, 5_000, 1_000_000]), "prefix bytes"),
        speculates=data.draw(st.booleans(), "speculates"),
    )
    log, asked, cancelled = Log(), list[Request](), set[int]()
    for number in range(data.draw(st.integers(1, 10), "requests")):
        length = data.draw(st.integers(1, min(STEP, longest - 1)) | st.integers(1, longest - 1), "prompt")
        most = longest - length
        asked.append((number, length, data.draw(st.just(most) | st.integers(1, most), "answer")))
        busy.add(submit(number, prompt(number, length), asked[-1][2], sampling(number)))
        for _ in range(data.draw(st.sampled_from([0, 0, 3, 12]), "steps")):
            log.step(busy)
        if data.draw(st.sampled_from([False, False, True]), "cancels"):
            leaving = data.draw(st.integers(0, number), "leaving")
            busy.cancel(leaving)
            cancelled.add(leaving)
    end(log, busy)
    for number, length, tokens in asked:
        whole = expected(number, length, tokens)
        got = log.tokens.get(number, [])
        assert got == (whole[: len(got)] if number in cancelled else whole)
        assert number in cancelled or number in log.finish
