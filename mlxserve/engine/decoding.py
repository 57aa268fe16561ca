"""The sequences that are being decoded: in one batch, or in several that take turns."""

from __future__ import annotations

from dataclasses import dataclass, field

import mlx.core as mx

from mlxserve.engine.grouping import Grouping
from mlxserve.engine.prefix import PrefixIndex
from mlxserve.engine.sequence import Sequence
from mlxserve.engine.verification import Guesses
from mlxserve.pipeline.pipeline import Work
from mlxserve.pipeline.plan import CacheOperation, Join, Keep, Move, Trim

_SPARE_FOR = 32
"""Decode steps for which room is left for rows to come: by then who asks again has done so."""


@dataclass(eq=False)
class Group:
    """A batch that is decoded: row i of the KV caches and of `inputs` is sequences[i]."""

    batch: int
    sequences: list[Sequence]
    inputs: mx.array | None
    """The token that each row goes on with, [rows, 1], perhaps not computed yet; None while a step is on its way."""
    rejected: list[int] = field(default_factory=list)
    """The tokens at the end of each row's caches that are to be forgotten, where there are any."""
    spare: int = 0
    """Rows that the caches have room for besides: those of sequences that have ended."""
    steps_with_spare: int = 0
    """Since that last changed."""

    @property
    def rows(self) -> int:
        """How many sequences."""
        return len(self.sequences)

    @property
    def idle(self) -> bool:
        """Whether no step is on its way."""
        return self.inputs is not None


class Decoding:
    """Groups, and the prompts that have been read and wait to join one."""

    def __init__(self, grouping: Grouping, prefixes: PrefixIndex | None, keeps_room: bool = False) -> None:
        """`keeps_room`: rows that end leave room for others, which costs memory for a while but copies little."""
        self._grouping = grouping
        self._prefixes = prefixes
        self._keeps_room = keeps_room
        self._gathering = False
        self.groups: list[Group] = []
        self.joining: list[Group] = []

    @property
    def sequences(self) -> list[Sequence]:
        """All of them, also those that have ended and keep their rows until the next occasion."""
        return [sequence for group in [*self.groups, *self.joining] for sequence in group.sequences]

    @property
    def rows(self) -> int:
        """How many rows there are in all groups."""
        return sum(group.rows for group in [*self.groups, *self.joining])

    @property
    def spare(self) -> int:
        """For how many more rows there is room in the caches."""
        return sum(group.spare for group in [*self.groups, *self.joining])

    @property
    def ready(self) -> Group | None:
        """The group whose next step can enter: the one that has waited longest."""
        if self._gathering:
            return None
        return next((group for group in self.groups if group.idle), None)

    def regroup(self, operations: list[CacheOperation], batches: int) -> int:
        """Drop rows that have ended, let prompts that were read join, divide or unite groups.

        New batches get numbers after `batches`; returns the last one taken.
        """
        for group in [*self.groups, *self.joining]:
            if group.idle:
                self._settle(group, operations)
            if group.steps_with_spare >= _SPARE_FOR:
                _give_back(group, operations)
        self.groups = [group for group in self.groups if group.sequences]
        self.joining = [group for group in self.joining if group.sequences]
        wanted = self._grouping.groups(self.rows) if self.rows else 1
        self._join(wanted, operations)
        self._unite(wanted, operations)
        return self._divide(wanted, operations, batches)

    def step(self, group: Group, guesses: Guesses | None) -> Work:
        """The next decode step of `group`, which verifies `guesses` where there are any."""
        assert group.inputs is not None
        work = Work(group.batch, group.inputs, [], "last")
        if guesses:
            work = Work(group.batch, guesses.inputs(group.sequences), [], "all")
        group.inputs = None
        group.steps_with_spare += group.spare > 0
        for sequence in group.sequences:
            sequence.read += work.tokens.shape[1]
        # Groups take turns: the one that enters goes to the end.
        self.groups.remove(group)
        self.groups.append(group)
        return work

    def _settle(self, group: Group, operations: list[CacheOperation]) -> None:
        """Forget what was guessed wrongly, and drop the rows that have ended."""
        if group.rejected:
            operations.append(Trim(group.batch, group.rejected))
            group.rejected = []
        rows = _staying(group)
        if len(rows) == group.rows:
            return
        for row, sequence in enumerate(group.sequences):
            if not sequence.stays:
                self.store(group.batch, row, sequence, operations)
        if self._keeps_room:
            group.spare = group.spare + group.rows - len(rows) if rows else 0
            group.steps_with_spare = 0
        operations.append(Keep(group.batch, rows, group.spare))
        group.sequences = [group.sequences[row] for row in rows]
        if rows and group.inputs is not None:
            group.inputs = group.inputs[mx.array(rows)]

    def give_room_back(self, operations: list[CacheOperation]) -> None:
        """Keep no room for rows to come."""
        for group in [*self.groups, *self.joining]:
            _give_back(group, operations)

    def store(self, batch: int, row: int, sequence: Sequence, operations: list[CacheOperation]) -> None:
        """Keep what the caches of a row hold for whoever begins like this."""
        if self._prefixes is not None and sequence.read <= len(sequence.tokens):
            operations += self._prefixes.insert(sequence.tokens[: sequence.read], batch, row)

    def _join(self, wanted: int, operations: list[CacheOperation]) -> None:
        """Let prompts that were read become a group, or join the smallest one as soon as that is idle."""
        for group in list(self.joining):
            smallest = min(self.groups, key=lambda one: one.rows, default=group)
            if len(self.groups) < wanted:
                self.groups.append(group)
            elif smallest.idle:
                _unite(smallest, group, operations)
            else:
                continue
            self.joining.remove(group)

    def _unite(self, wanted: int, operations: list[CacheOperation]) -> None:
        """Bring too many groups together, as soon as all of them are idle."""
        self._gathering = len(self.groups) > wanted
        if self._gathering and all(group.idle for group in self.groups):
            while len(self.groups) > wanted:
                _unite(self.groups[0], self.groups.pop(), operations)
            self._gathering = False

    def _divide(self, wanted: int, operations: list[CacheOperation], batches: int) -> int:
        """Cut groups where there are too few; of one that is too large let some rows join a smaller one."""
        for group in [group for group in self.groups if group.idle]:
            if len(self.groups) < wanted and group.rows > 1:
                batches += 1
                self.groups.append(_cut(group, group.rows // 2, batches, operations))
            elif (surplus := (group.rows - min(other.rows for other in self.groups)) // 2) > 0 and wanted > 1:
                batches += 1
                self.joining.append(_cut(group, surplus, batches, operations))
        return batches


def _staying(group: Group) -> list[int]:
    """The rows whose sequences go on; the last ones take the places of those that do not, so that few move."""
    rows = [row for row, sequence in enumerate(group.sequences) if sequence.stays]
    first = range(len(rows))
    moving = iter(row for row in rows if row not in first)
    return [row if group.sequences[row].stays else next(moving) for row in first]


def _give_back(group: Group, operations: list[CacheOperation]) -> None:
    if group.spare:
        operations.append(Keep(group.batch, list(range(group.rows))))
    group.spare = group.steps_with_spare = 0


def _unite(group: Group, other: Group, operations: list[CacheOperation]) -> None:
    assert group.inputs is not None
    assert other.inputs is not None
    operations.append(Join(group.batch, other.batch))
    group.spare = max(0, group.spare - other.rows)
    group.steps_with_spare = 0
    group.sequences += other.sequences
    group.inputs = mx.concatenate([group.inputs, other.inputs])


def _cut(group: Group, rows: int, batch: int, operations: list[CacheOperation]) -> Group:
    """The last `rows` of `group` leave it, as the batch of that number."""
    assert group.inputs is not None
    left = group.rows - rows
    operations.append(Move(group.batch, list(range(left, group.rows)), batch))
    group.spare = group.steps_with_spare = 0
    other = Group(batch, group.sequences[left:], group.inputs[left:])
    group.sequences, group.inputs = group.sequences[:left], group.inputs[:left]
    return other
