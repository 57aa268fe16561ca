"""Sequences that nobody waits for any more: wherever they are, the next one has their place within a step."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from mlxserve.engine.desk import Desk
from mlxserve.engine.messages import Cancel, Failed, Ready, Submit
from mlxserve.engine.scheduler import Scheduler
from tests.engine.tiny import FOOTPRINT, GREEDY, VOCABULARY, Log, Priced, alone, scheduler, submit, works
from tests.text.tokenizer_folder import write_tokenizer_folder

SHORT = [3, 1, 4, 1, 5]
LONG = [(11 * column) % 500 for column in range(240)]
ROW_BYTES = int(512 * FOOTPRINT.token_bytes * 1.1) + 1
"""Less than two long rows take."""
RANKS = pytest.mark.parametrize("ranks", [1, 2, 3])


def _first_reading(some: Scheduler, number: int) -> int:
    """Steps until the prompt of sequence `number` begins to be read."""
    log = Log()
    for steps in range(1, 100):
        log.step(some)
        if any(reading.id == number for reading in log.reading):
            return steps
    raise AssertionError("its turn never came")


@RANKS
def test_the_next_is_read_at_the_next_step_when_one_leaves_that_is_being_answered(ranks: int) -> None:
    """Over several ranks, when the step that is under way is through."""
    full, log = scheduler(rows=2, pace=Priced(ranks, 0.1)), Log()
    for number in (1, 2):
        full.add(submit(number, SHORT, tokens=200))
    while not (log.tokens.get(1) and log.tokens.get(2)):
        log.step(full)
    full.add(submit(3, SHORT))
    for _ in range(5):
        log.step(full)
    assert not any(reading.id == 3 for reading in log.reading)
    full.cancel(1)
    assert _first_reading(full, 3) <= ranks


@RANKS
def test_the_next_is_read_at_the_next_step_when_one_leaves_that_is_being_read(ranks: int) -> None:
    full, log = scheduler(rows=1, chunk=8, pace=Priced(ranks, 0.1)), Log()
    full.add(submit(1, LONG))
    full.add(submit(2, SHORT))
    while not log.reading:
        log.step(full)
    assert log.reading[-1].done < len(LONG)
    full.cancel(1)
    entered = len(works(full))
    assert _first_reading(full, 2) <= ranks
    assert len(works(full)) == entered + 1, "nothing more of the other is read"


def test_of_prompts_that_are_read_together_one_that_leaves_costs_the_others_nothing() -> None:
    both, log = scheduler(chunk=16), Log()
    for number in (1, 2):
        both.add(submit(number, [number, *LONG]))
    while not log.reading:
        log.step(both)
    both.cancel(1)
    assert log.run(both).tokens == {2: alone(submit(2, [2, *LONG]))}


@RANKS
def test_one_that_leaves_the_queue_is_never_read(ranks: int) -> None:
    full, log = scheduler(rows=1, pace=Priced(ranks, 0.1)), Log()
    for number in (1, 2, 3):
        full.add(submit(number, SHORT))
    log.step(full)
    full.cancel(2)
    log.run(full)
    assert {reading.id for reading in log.reading} == {1, 3}
    assert log.tokens == {number: alone(submit(number, SHORT)) for number in (1, 3)}


def test_the_memory_of_one_that_leaves_is_the_next_ones() -> None:
    full, log = scheduler(kv_bytes=ROW_BYTES), Log()
    full.add(submit(1, LONG, tokens=200))
    full.add(submit(2, [5, *LONG], tokens=200))
    while not log.tokens.get(1):
        log.step(full)
    assert not any(reading.id == 2 for reading in log.reading)
    full.cancel(1)
    assert _first_reading(full, 2) == 1


def test_when_all_have_left_nothing_is_left_to_do() -> None:
    full, log = scheduler(rows=2, chunk=8), Log()
    for number in range(6):
        full.add(submit(number, LONG))
    for _ in range(3):
        log.step(full)
    for number in range(6):
        full.cancel(number)
    log.step(full)
    log.step(full)
    assert not full.busy


class Channel:
    """What the desk sees of the engine's channel."""

    def __init__(self) -> None:
        self.orders: SimpleQueue[Any] = SimpleQueue()
        self.sent: list[Any] = []

    def send(self, event: Any) -> None:
        self.sent.append(event)


def test_who_leaves_while_its_grammar_is_compiled_is_not_taken_on(tmp_path: Path) -> None:
    channel, some = Channel(), scheduler()
    ready = Ready("qwen2", VOCABULARY, 1000, "ring", 4, True, True, [])
    desk = Desk(some, channel, ready, write_tokenizer_folder(tmp_path))  # type: ignore[arg-type]
    for number, grammar in ((1, 'start: "a"'), (2, "start: nothing")):
        desk.take(Submit(number, SHORT, GREEDY, 5, [2], grammar=grammar))
        desk.take(Cancel(number))
        desk.take(channel.orders.get(timeout=60))
    assert not some.busy
    assert not [event for event in channel.sent if isinstance(event, Failed)]
