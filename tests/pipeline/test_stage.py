"""Whatever is done to batches and segments, each row goes on as if its tokens had been read at once, alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from mlxserve.pipeline.plan import Drop, Join, Keep, Open, Span, Split, Store, Trim

from .one_rank import TinyModel, close

TYPES = ["qwen2", "lfm2", "llama", "deepseek_v3"]
"""Plain attention; convolutions' states and attention; sliding windows and attention; compressed keys and values."""
MOST_TOKENS = 45

tiny = cache(TinyModel)


@dataclass
class Row:
    tokens: list[int]
    chain: list[tuple[str, int]] = field(default_factory=list)
    """The segments that its first tokens are stored in."""

    @property
    def stored(self) -> int:
        return sum(count for _, count in self.chain)


class Operations(RuleBasedStateMachine):
    model_type = "qwen2"

    def __init__(self) -> None:
        super().__init__()
        self.model = tiny(self.model_type)
        self.batches: dict[int, list[Row]] = {}
        self.chains: list[Row] = []
        """Stored sequences."""
        self.heads: set[str] = set()
        self.names = 0

    def teardown(self) -> None:
        for batch in self.batches:
            self.model.do(Keep(batch, []))
        for key in list(self.model.stage.segments.lengths):
            self.model.do(Drop(key))

    def new_name(self) -> int:
        self.names += 1
        return self.names

    @rule(data=st.data(), rows=st.integers(1, 3))
    def open_and_read(self, data: st.DataObject, rows: int) -> None:
        begun = [self.beginning(data) for _ in range(rows)]
        batch = self.new_name()
        prefixes = [[Span(key, count) for key, count in row.chain] for row in begun]
        self.model.do(Open(batch, rows, prefixes if any(prefixes) else []))
        self.batches[batch] = begun
        self.read(data, batch, 12)

    def beginning(self, data: st.DataObject) -> Row:
        """Nothing, or a part of what is stored."""
        if not self.chains or data.draw(st.booleans()):
            return Row([])
        stored = data.draw(st.sampled_from(self.chains))
        last = data.draw(st.integers(0, len(stored.chain) - 1))
        chain = stored.chain[: last + 1]
        if self.model.stage.cuttable:
            key, count = chain[-1]
            chain[-1] = (key, data.draw(st.integers(1, count)))
        elif chain[-1][0] in self.heads:
            return Row([])
        return Row(stored.tokens[: sum(count for _, count in chain)], chain)

    def read(self, data: st.DataObject, batch: int, most: int) -> None:
        rows = self.batches[batch]
        token = st.integers(3, 60)
        new = [data.draw(st.lists(token, min_size=1, max_size=most)) for _ in rows]
        for row, tokens in zip(rows, new, strict=True):
            row.tokens = row.tokens + tokens
        for logits, row in zip(self.model.read(batch, new), rows, strict=True):
            assert close(logits, self.model.fresh(row.tokens)), row

    def some(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.batches)))

    @precondition(lambda self: self.batches)
    @rule(data=st.data(), most=st.sampled_from([1, 1, 9]))
    def read_on(self, data: st.DataObject, most: int) -> None:
        batch = self.some(data)
        if max(len(row.tokens) for row in self.batches[batch]) < MOST_TOKENS:
            self.read(data, batch, most)

    @precondition(lambda self: len(self.batches) > 1)
    @rule(data=st.data())
    def join(self, data: st.DataObject) -> None:
        one, other = data.draw(st.permutations(sorted(self.batches)))[:2]
        if len(self.batches[one]) + len(self.batches[other]) <= 4:
            self.model.do(Join(one, other))
            self.batches[one] += self.batches.pop(other)

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def keep(self, data: st.DataObject) -> None:
        batch = self.some(data)
        rows = self.batches[batch]
        kept = data.draw(st.lists(st.integers(0, len(rows) - 1), unique=True))
        if data.draw(st.booleans()):
            kept.sort()
        spare = data.draw(st.sampled_from([len(rows) - len(kept), 0, 3]))
        self.model.do(Keep(batch, kept, spare))
        self.batches[batch] = [rows[row] for row in kept]
        if not kept:
            del self.batches[batch]

    @precondition(lambda self: self.batches and self.model.stage.cuttable)
    @rule(data=st.data())
    def trim(self, data: st.DataObject) -> None:
        batch = self.some(data)
        rows = self.batches[batch]
        counts = [data.draw(st.integers(0, min(4, len(row.tokens)))) for row in rows]
        self.model.do(Trim(batch, counts))
        for row, count in zip(rows, counts, strict=True):
            row.tokens = row.tokens[: len(row.tokens) - count]
            if row.stored > len(row.tokens):
                row.chain = []

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def store(self, data: st.DataObject) -> None:
        batch = self.some(data)
        number = data.draw(st.integers(0, len(self.batches[batch]) - 1))
        row = self.batches[batch][number]
        ends = {len(row.tokens)}
        if self.model.stage.cuttable and row.stored < len(row.tokens):
            ends = data.draw(st.sets(st.integers(row.stored + 1, len(row.tokens)), min_size=1, max_size=3))
        for stop in sorted(ends):
            if row.stored < stop:
                key = f"segment {self.new_name()}"
                self.model.do(Store(batch, number, row.stored, stop, key))
                row.chain = [*row.chain, (key, stop - row.stored)]
                self.chains.append(Row(row.tokens[:stop], row.chain))

    @precondition(lambda self: self.chains)
    @rule(data=st.data())
    def split(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(data.draw(st.sampled_from(self.chains)).chain))[0]
        tokens = self.model.stage.segments.lengths[key]
        if tokens < 2:
            return
        at = data.draw(st.integers(1, tokens - 1))
        head = f"head {self.new_name()}"
        before = self.model.stage.segments.nbytes
        self.model.do(Split(key, at, head))
        assert self.model.stage.segments.nbytes == before
        self.heads.add(head)
        for row in [*self.chains, *(row for rows in self.batches.values() for row in rows)]:
            row.chain = [part for name, count in row.chain for part in _split((name, count), key, at, head)]

    @precondition(lambda self: self.chains)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(data.draw(st.sampled_from(self.chains)).chain))[0]
        self.model.do(Drop(key))
        self.chains = [stored for stored in self.chains if key not in dict(stored.chain)]
        for rows in self.batches.values():
            for row in rows:
                row.chain = [] if key in dict(row.chain) else row.chain


def _split(part: tuple[str, int], key: str, at: int, head: str) -> list[tuple[str, int]]:
    """A row may have begun with fewer tokens of a segment than it has."""
    name, count = part
    if name != key:
        return [part]
    return [(head, at), (key, count - at)] if count > at else [(head, count)]


@pytest.mark.parametrize("model_type", TYPES)
def test_rows_go_on_as_if_read_alone_whatever_was_done_to_them(model_type: str) -> None:
    machine: Any = type("Machine", (Operations,), {"model_type": model_type})
    bounds = settings(
        max_examples=20, stateful_step_count=16, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    run_state_machine_as_test(machine, settings=bounds)
