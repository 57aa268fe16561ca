"""The index against a model that knows nothing of trees: each segment as the whole sequence that it ends."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from mlxserve.engine.memory import Bound
from mlxserve.engine.prefix import FEWEST_NEW, Match, PrefixIndex
from mlxserve.pipeline.footprint import Footprint
from mlxserve.pipeline.plan import CacheOperation, Drop, Split, Store
from tests.engine.rank_store import RankStore

BLOCKS = [[9] * 10 + [kind] * 12 for kind in range(3)]
SEQUENCES = st.builds(
    lambda blocks, cut: sum((BLOCKS[block] for block in blocks), list[int]())[: -cut or None],
    st.lists(st.integers(0, 2), min_size=1, max_size=5),
    st.integers(0, 21),
)


@dataclass
class Stored:
    """A segment: the tokens of `sequence` from `start` on."""

    sequence: list[int]
    start: int
    snapshot: bool
    used: int


class AnyUse(RuleBasedStateMachine):
    """What is asked and stored in any order, on two ranks of unequal size."""

    cuttable = True

    @initialize(tokens=st.sampled_from([60, 130, 300, 10_000]))
    def begin(self, tokens: int) -> None:
        footprints = [Footprint(token_bytes=7), Footprint(token_bytes=5, windows=[(3, 30)], sequence_bytes=200)]
        if self.cuttable:
            footprints[1] = Footprint(token_bytes=5)
        self.bounds = [Bound(footprint, tokens * 7) for footprint in footprints]
        self.ample = tokens == 10_000
        self.index = PrefixIndex(self.bounds, self.cuttable)
        self.stores = [RankStore(bound, self.cuttable) for bound in self.bounds]
        self.known: dict[str, Stored] = {}
        self.clock = 0
        self.pinned: list[Match] = []

    @rule(tokens=SEQUENCES)
    def ask(self, tokens: list[int]) -> None:
        looked = self.index.found(tokens)
        match = self.index.match(tokens)
        assert match.length == looked == self.longest(tokens[:-1])
        for store in self.stores:
            assert store.begin(match.spans) == tokens[: match.length]
        self.use(tokens[: match.length])

    @rule(tokens=SEQUENCES)
    def store(self, tokens: list[int]) -> None:
        before = self.longest(tokens)
        operations = self.index.insert(tokens, 0, 0)
        for operation in operations:
            for store in self.stores:
                store.apply(operation, tokens)
        dropped = list[Stored]()
        for operation in operations:
            if isinstance(operation, Drop):
                dropped.append(self.known[operation.key])
            self.follow(operation, tokens)
        self.check_order(dropped, tokens)
        self.use(tokens)
        if self.ample:
            assert len(tokens) - self.longest(tokens) < FEWEST_NEW
        assert self.longest(tokens) >= before

    @rule(tokens=SEQUENCES)
    def want_a_border(self, tokens: list[int]) -> None:
        border = self.index.wanted_border(tokens)
        shared = max((common(tokens[:-1], stored.sequence) for stored in self.known.values()), default=0)
        worth = not self.cuttable and shared - self.longest(tokens[:-1]) >= FEWEST_NEW
        assert border == (shared if worth else None)

    @rule(tokens=SEQUENCES)
    def pin(self, tokens: list[int]) -> None:
        match = self.index.match(tokens)
        self.use(tokens[: match.length])
        self.index.pin(match)
        self.pinned.append(match)

    @precondition(lambda self: self.pinned)
    @rule()
    def unpin(self) -> None:
        self.index.unpin(self.pinned.pop())

    @precondition(lambda self: not self.pinned)
    @rule()
    def restart(self) -> None:
        restored = PrefixIndex(self.bounds, self.cuttable)
        held = [{key: len(tokens) for key, tokens in store.segments.items()} for store in self.stores]
        assert restored.restore(self.index.state(), held) == []
        self.index = restored

    @invariant()
    def bytes_are_right_and_bounded(self) -> None:
        if hasattr(self, "index"):
            assert self.index.bytes == [store.bytes for store in self.stores]
            assert all(now <= bound.bytes for now, bound in zip(self.index.bytes, self.bounds, strict=True))

    @invariant()
    def what_is_pinned_is_there(self) -> None:
        if hasattr(self, "index"):
            assert all(match.spans[-1].key in self.known for match in self.pinned if match.spans)

    @invariant()
    def no_token_is_stored_twice_or_without_those_before(self) -> None:
        if hasattr(self, "known"):
            stored = [tuple(one.sequence[:end]) for one in self.known.values() for end in self.ends(one)]
            assert len(stored) == len(set(stored))
            assert all(len(tokens) == 1 or tokens[:-1] in set(stored) for tokens in stored)

    @staticmethod
    def ends(stored: Stored) -> range:
        return range(stored.start + 1, len(stored.sequence) + 1)

    def longest(self, tokens: list[int]) -> int:
        """What can be taken over of `tokens`, by looking at everything."""
        if self.cuttable:
            return max((common(tokens, stored.sequence) for stored in self.known.values()), default=0)
        whole = [one.sequence for one in self.known.values() if one.snapshot]
        return max((len(sequence) for sequence in whole if tokens[: len(sequence)] == sequence), default=0)

    def use(self, tokens: list[int]) -> None:
        self.clock += 1
        for stored in self.known.values():
            if common(tokens, stored.sequence) > stored.start:
                stored.used = self.clock

    def follow(self, operation: CacheOperation, tokens: list[int]) -> None:
        match operation:
            case Store(_, _, start, stop, key):
                self.known[key] = Stored(tokens[:stop], start, True, self.clock)
            case Split(key, at, head):
                rest = self.known[key]
                self.known[head] = Stored(rest.sequence[: rest.start + at], rest.start, False, rest.used)
                rest.start += at
            case Drop(key):
                del self.known[key]

    def check_order(self, dropped: list[Stored], tokens: list[int]) -> None:
        """What had to go for `tokens` has been used less recently than all that could have gone instead."""
        evicted = [one for one in dropped if common(tokens, one.sequence) <= one.start and one.snapshot]
        pinned = {match.spans[-1].key for match in self.pinned if match.spans}
        starts = {tuple(one.sequence[: one.start]) for one in self.known.values()}
        spare = [
            one
            for key, one in self.known.items()
            if key not in pinned and tuple(one.sequence) not in starts and common(tokens, one.sequence) <= one.start
        ]
        assert all(gone.used <= one.used for gone in evicted for one in spare)


class AnyUseUncut(AnyUse):
    """The same where caches cannot be cut."""

    cuttable = False


@pytest.mark.parametrize("machine", [AnyUse, AnyUseUncut])
def test_whatever_is_stored_and_asked_the_longest_is_found_within_the_bounds(machine: type[AnyUse]) -> None:
    few = settings(max_examples=30, stateful_step_count=25, deadline=None)
    run_state_machine_as_test(machine, settings=few)  # type: ignore[no-untyped-call]


def common(one: list[int], other: list[int]) -> int:
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
