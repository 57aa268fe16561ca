"""A rank's stored segments without arrays: what operations ask of a store is checked, and bytes are counted."""

from __future__ import annotations

from mlxserve.engine.memory import Bound
from mlxserve.engine.prefix import PrefixIndex
from mlxserve.pipeline.plan import CacheOperation, Drop, Span, Split, Store


class RankStore:
    """Segments are the tokens themselves, so that what a span gives can be compared."""

    def __init__(self, bound: Bound, cuttable: bool) -> None:
        self._bound = bound
        self._cuttable = cuttable
        self.segments: dict[str, list[int]] = {}
        self._snapshots: dict[str, list[int]] = {}
        """Of which tokens the caches that cannot be cut are kept, by segment."""

    def apply(self, operation: CacheOperation, row: list[int]) -> None:
        """Carry out `operation`; `row` is what the row in question holds."""
        match operation:
            case Store(_, _, start, stop, key):
                assert key not in self.segments
                assert 0 <= start < stop <= len(row)
                assert self._cuttable or stop == len(row)
                self.segments[key] = row[start:stop]
                self._snapshots[key] = row[:stop]
            case Split(key, at, head):
                assert head not in self.segments
                whole = self.segments[key]
                assert 0 < at < len(whole)
                self.segments[head], self.segments[key] = whole[:at], whole[at:]
            case Drop(key):
                del self.segments[key]
                self._snapshots.pop(key, None)
            case _:
                raise AssertionError(f"{operation} does not concern stored segments")
        assert self.bytes <= self._bound.bytes

    @property
    def bytes(self) -> int:
        """What all segments take."""
        footprint = self._bound.footprint
        taken = sum(footprint.token_bytes * len(tokens) for tokens in self.segments.values())
        if not self._cuttable:
            for tokens in self._snapshots.values():
                taken += footprint.bytes_of(len(tokens)) - footprint.token_bytes * len(tokens)
        return taken

    def begin(self, spans: list[Span]) -> list[int]:
        """The tokens of a row that begins with `spans`."""
        row = list[int]()
        for span in spans:
            assert 0 < span.count <= len(self.segments[span.key])
            row += self.segments[span.key][: span.count]
        if spans and not self._cuttable:
            assert self._snapshots[spans[-1].key] == row
        return row


class Ranks:
    """An index, and the stores of all ranks that follow it."""

    def __init__(self, *bounds: Bound, cuttable: bool = True) -> None:
        self.index = PrefixIndex(bounds, cuttable)
        self.stores = [RankStore(bound, cuttable) for bound in bounds]

    def insert(self, tokens: list[int]) -> list[type]:
        """The kinds of operations that storing `tokens` took."""
        operations = self.index.insert(tokens, 3, 1)
        for operation in operations:
            for store in self.stores:
                store.apply(operation, tokens)
        assert self.index.bytes == [store.bytes for store in self.stores]
        return [type(operation) for operation in operations]

    def find(self, tokens: list[int]) -> int:
        """How many tokens are found; what every rank then has is what was asked for."""
        match = self.index.match(tokens)
        for store in self.stores:
            assert store.begin(match.spans) == tokens[: match.length]
        return match.length
