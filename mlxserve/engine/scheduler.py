"""Continuous batching: sequences join and leave a running batch at any step; prompts are read between its steps.

Each `step` decides what enters the pipeline, moves the pipeline on by a tick, draws tokens from the logits that left
it, and reports them. `go_on` follows.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace

import mlx.core as mx

from mlxserve.engine.decoding import Decoding, Group
from mlxserve.engine.drawing import Drawing, Flight
from mlxserve.engine.grouping import Grouping
from mlxserve.engine.memory import Ledger
from mlxserve.engine.messages import Reading, Step, Sums
from mlxserve.engine.pace import Pace
from mlxserve.engine.prefill import CHUNKS_TOGETHER, PromptBatch, chunk_size, longest_chunk, tapered
from mlxserve.engine.prefix import PrefixIndex
from mlxserve.engine.sequence import Sequence
from mlxserve.engine.sharing import Allowance
from mlxserve.engine.speculation import Speculation
from mlxserve.engine.timing import Timing
from mlxserve.engine.verification import Guesses
from mlxserve.engine.waiting import Taken, Waiting
from mlxserve.pipeline.pipeline import Pipeline, Work
from mlxserve.pipeline.plan import CacheOperation, Keep, Open


@dataclass(frozen=True)
class Limits:
    """How much is done at once."""

    decode_concurrency: int
    prompt_concurrency: int
    chunk: int = 0
    """Most tokens of a prompt in one pass; 0: as many as is best by measured times."""
    prefill_share: float = 0.5
    keeps_room: bool = False
    """Whether rows that have ended leave room for others in the caches: where all of these can be cut."""


class Scheduler:
    """Decides, tick by tick, what the pipeline works on."""

    def __init__(
        self,
        pipeline: Pipeline,
        limits: Limits,
        pace: Pace,
        ledger: Ledger,
        prefixes: PrefixIndex | None,
        speculation: Speculation | None,
    ) -> None:
        """Without `prefixes` none are stored; without `speculation` nothing is guessed."""
        self._pipeline = pipeline
        rows = limits.decode_concurrency if pipeline.batchable else 1
        self._limits = replace(limits, decode_concurrency=rows, prompt_concurrency=min(rows, limits.prompt_concurrency))
        self._pace = pace
        self._timing = Timing(pace)
        self._ledger = ledger
        self._speculation = speculation
        self._waiting = Waiting(ledger, prefixes)
        self._reading: deque[PromptBatch] = deque()
        self._decoding = Decoding(Grouping(pace), prefixes, limits.keeps_room and pipeline.batchable)
        self._allowance = Allowance(pace, limits.prefill_share)
        self._drawing = Drawing()
        self._flights: deque[Flight] = deque()
        self._landed: list[Group] = []
        self._open: dict[int, Sequence] = {}
        self._batches = 0
        self.sums = Sums()
        """What has been done, but for what the stored prefixes were good for."""
        self._held_up = False
        """Whether none of those that wait could be let in, for want of memory or of what others are reading."""

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(
            self._waiting
            or self._reading
            or self._landed
            or self._decoding.rows
            or self._drawing.unread
            or self._pipeline.in_flight
        )

    @property
    def lengths(self) -> list[list[int]]:
        """Tokens in the caches of each row of each batch; none in those that are left for rows to come."""
        groups = [*self._decoding.groups, *self._decoding.joining, *self._landed]
        decoding = [[*(sequence.read for sequence in group.sequences), *[0] * group.spare] for group in groups]
        return decoding + [[sequence.read for sequence in batch.sequences] for batch in self._reading]

    def add(self, sequence: Sequence) -> None:
        """Take on a sequence."""
        self._open[sequence.id] = sequence
        self._waiting.add(sequence)

    def cancel(self, number: int) -> None:
        """Drop a sequence wherever it is; unknown ones are ignored."""
        sequence = self._close(number)
        if sequence is not None:
            sequence.done = True
            self._waiting.remove(sequence)

    def step(self) -> Step:
        """One tick. Returns what it brought."""
        self._timing.begin()
        step = Step([], [])
        operations: list[CacheOperation] = []
        work = self._schedule(operations, step)
        alone = work is not None and not self._pipeline.in_flight and not self._more_follows
        logits = self._pipeline.tick(operations, work, nothing_follows=alone)
        runs_on = self._pipeline.runs_on and bool(self._flights) and self._flights[0].decodes
        if logits is not None:
            self._land(logits, step)
        if not (runs_on and self._pipeline.starts_slowly):
            self._drawing.compute()
        self._drawing.read(step, leave=int(runs_on))
        for ended in [*(new.id for new in step.tokens if new.finish), *(failed.id for failed in step.failed)]:
            self._close(ended)
        self._timing.end(work, alone, not self.busy, runs_on)
        return step

    def go_on(self) -> None:
        """After each step, when what it brought has been told: compute what it could not start without a wait."""
        self._drawing.compute()

    def _close(self, number: int) -> Sequence | None:
        sequence = self._open.pop(number, None)
        if sequence is not None and self._speculation:
            self._speculation.ended(sequence)
        return sequence

    def _schedule(self, operations: list[CacheOperation], step: Step) -> Work | None:
        """Choose the item that enters: a decode step, a chunk of prompts, or nothing."""
        self._drop_abandoned(operations)
        self._store_landed(operations)
        self._make_room(step)
        self._batches = self._decoding.regroup(operations, self._batches)
        if not self._fits(1):
            self._decoding.give_room_back(operations)
        self._take_back()
        self._admit(operations)
        group = self._decoding.ready
        prompts = self._next_prompts()
        if prompts and (size := self._chunk(prompts, group)):
            return self._read_chunk(prompts, size, operations, step)
        if group is None:
            return None
        return self._decode(group, step)

    @property
    def _more_follows(self) -> bool:
        """Whether something could enter at the next tick already."""
        prompts = self._next_prompts()
        if self._decoding.ready or (prompts and self._chunk(prompts, None)):
            return True
        return prompts is None and bool(self._waiting) and self._room > 0 and not self._held_up

    def _next_prompts(self) -> PromptBatch | None:
        return next((batch for batch in self._reading if not batch.wholly_entered), None)

    @property
    def _room(self) -> int:
        """How many more prompts can be read now."""
        rows = self._decoding.rows + sum(group.rows for group in self._landed)
        rows += sum(batch.rows for batch in self._reading)
        return min(self._limits.decode_concurrency - rows, self._limits.prompt_concurrency)

    def _drop_abandoned(self, operations: list[CacheOperation]) -> None:
        for batch in [batch for batch in self._reading if batch.abandoned and not batch.wholly_entered]:
            self._reading.remove(batch)
            for row, sequence in enumerate(batch.sequences):
                self._decoding.store(batch.batch, row, sequence, operations)
            operations.append(Keep(batch.batch, []))

    def _store_landed(self, operations: list[CacheOperation]) -> None:
        """Prompts that have been read are there for others from now on, and join those that are decoded."""
        for group in self._landed:
            for row, sequence in enumerate(group.sequences):
                self._decoding.store(group.batch, row, sequence, operations)
        self._decoding.joining += self._landed
        self._landed.clear()

    def _make_room(self, step: Step) -> None:
        """Choose who is put back, if the next tokens of all would not fit into memory."""
        while not self._ledger.fits(self._lengths(1)):
            self._drawing.read(step)  # who is put back is read again later, with all tokens drawn so far
            idle = [group for group in [*self._decoding.groups, *self._decoding.joining] if group.idle]
            rows = [sequence for group in idle for sequence in group.sequences if sequence.stays]
            if not rows or sum(sequence.stays for sequence in self._decoding.sequences) < 2:
                return
            max(rows, key=lambda sequence: sequence.id).put_back = True
            self.sums.put_backs += 1

    def _lengths(self, more: int) -> list[int]:
        """Tokens of every sequence that has a row, `more` of each that is decoded."""
        running = [sequence.read + more for sequence in self._decoding.sequences if sequence.stays]
        return running + [len(sequence.tokens) for batch in self._reading for sequence in batch.sequences]

    def _fits(self, more: int) -> bool:
        """Whether so many more tokens of all that are decoded fit, beside the room for rows to come."""
        return self._ledger.fits([*self._lengths(more), *[0] * self._decoding.spare])

    def _take_back(self) -> None:
        for sequence in reversed(self._open.values()):  # each goes before all that wait: the oldest last
            if sequence.put_back and not sequence.done and sequence not in self._decoding.sequences:
                sequence.put_back = False
                sequence.read = 0
                self._waiting.put_back(sequence)

    def _admit(self, operations: list[CacheOperation]) -> None:
        """Open a batch for waiting prompts, if none is being read and there is room."""
        if not self._waiting or self._room < 1 or self._next_prompts():
            return
        under_way = [sequence for batch in self._reading for sequence in batch.sequences]
        taken = self._take(under_way, self._decoding.spare)
        if not taken.sequences and self._decoding.spare:
            taken = self._take(under_way, 0)
            if taken.sequences:
                self._decoding.give_room_back(operations)
        self._held_up = not taken.sequences
        if self._held_up:
            return
        self._batches += 1
        self._reading.append(PromptBatch(self._batches, taken.sequences, taken.borders))
        prefixes = taken.prefixes if any(taken.prefixes) else []
        operations.append(Open(self._batches, len(taken.sequences), prefixes))

    def _take(self, under_way: list[Sequence], spare: int) -> Taken:
        """What is read next, if that fits beside those that are running and `spare` rows to come."""
        running = [*self._lengths(0), *[0] * spare]
        return self._waiting.take(self._room, running, under_way, self._widest_batch, self._whole)

    @property
    def _widest_batch(self) -> int:
        """Tokens that prompts which are read together may have in all."""
        return CHUNKS_TOGETHER * longest_chunk(self._pace, self._limits.chunk)

    @property
    def _whole(self) -> int:
        """Tokens of short prompts that are read in one pass."""
        return self._allowance.whole(self._decoding_tokens) if self._decoding.rows else self._widest_batch

    def _chunk(self, prompts: PromptBatch, group: Group | None) -> int:
        """How many tokens a row of `prompts` may enter now, with `group` ready for its next step."""
        size = prompts.chunk or self._idle_chunk(prompts)
        if not self._decoding.rows:
            return size if self._pace.ranks == 1 else self._tapered_chunk(prompts, size)
        gap = self._pace.ranks > 1 and group is None
        most = min(prompts.unread, size) * prompts.rows
        whole = not prompts.begun and size >= prompts.unread
        tokens = self._allowance.tokens(most, self._decoding_tokens, gap, whole)
        return min(size, -(-tokens // prompts.rows))

    def _tapered_chunk(self, prompts: PromptBatch, size: int) -> int:
        longest = longest_chunk(self._pace, self._limits.chunk) // prompts.rows
        return tapered(prompts.unread, size, max(longest, size), self._pace.ranks)

    def _idle_chunk(self, prompts: PromptBatch) -> int:
        """Tokens a row where only prompts are read."""
        following = self._waiting.unread
        unread = prompts.unread * prompts.rows
        return -(-chunk_size(self._pace, unread, following, self._limits.chunk) // prompts.rows)

    @property
    def _decoding_tokens(self) -> int:
        return max((group.rows for group in self._decoding.groups), default=1)

    def _read_chunk(self, prompts: PromptBatch, size: int, operations: list[CacheOperation], step: Step) -> Work:
        if prompts.at_border:
            self._decoding.store(prompts.batch, 0, prompts.sequences[0], operations)
        if not self._decoding.rows:
            self._allowance.nothing_runs()
        prompts.chunk = 0 if self._decoding.rows else prompts.chunk or self._idle_chunk(prompts)
        work = prompts.next_chunk(size)
        self.sums.chunks += 1
        self.sums.chunk_tokens += sum(work.lengths) or work.tokens.size
        if self._decoding.rows:
            gap = self._pace.ranks > 1 and self._decoding.ready is None
            self._allowance.spend(work.tokens.size, self._decoding_tokens, gap)
        now = time.perf_counter()
        for one in prompts.sequences:
            if not one.done and one.emitted == 0:
                step.reading.append(Reading(one.id, one.read, len(one.prompt), one.cached, now))
        if prompts.wholly_entered or work.logits == "all":
            flight = Flight(prompts.sequences, prompts, prompts.wholly_entered, targets=prompts.targets(work))
            self._flights.append(flight)
        return work

    def _decode(self, group: Group, step: Step) -> Work:
        guesses = self._guesses(group, step)
        work = self._decoding.step(group, guesses)
        self.sums.decode_steps += 1
        self.sums.decode_rows += group.rows
        self._allowance.decode_step(work.tokens.size)
        self._flights.append(Flight(list(group.sequences), group, guesses=guesses))
        return work

    def _guesses(self, group: Group, step: Step) -> Guesses | None:
        """What is guessed to follow, where verifying it promises to pay."""
        if self._speculation is None:
            return None
        if self._drawing.unread:
            if not self._speculation.promises(group.sequences):
                return None
            self._drawing.read(step)
        guesses = self._speculation.guesses(group.sequences)
        return guesses if guesses and self._fits(1 + guesses.count) else None

    def _land(self, logits: mx.array, step: Step) -> None:
        """A flight has landed: draw a token for each of its rows from `logits` [rows, positions, vocabulary]."""
        flight = self._flights.popleft()
        if flight.targets:
            self._drawing.tell_prompt(flight, logits[0], step)
        if not flight.last:
            return
        if flight.guesses:
            self._land_guesses(flight, logits, step)
            return
        inputs = self._drawing.draw(flight.sequences, logits[:, -1], step)
        if isinstance(flight.origin, Group):
            flight.origin.inputs = inputs
        else:
            self._reading.remove(flight.origin)
            self._landed.append(Group(flight.origin.batch, flight.sequences, inputs))

    def _land_guesses(self, flight: Flight, logits: mx.array, step: Step) -> None:
        verdicts = self._drawing.verify(flight, logits, step)
        if self._speculation and flight.guesses:
            self._speculation.settle(flight.sequences, flight.guesses, verdicts)
            self.sums.drafted += sum(map(len, flight.guesses.rows))
            self.sums.accepted += sum(max(0, len(verdict.tokens) - 1) for verdict in verdicts)
        assert isinstance(flight.origin, Group)
        flight.origin.inputs = mx.array([[sequence.tokens[-1]] for sequence in flight.sequences], mx.int32)
        flight.origin.rejected = [verdict.trim for verdict in verdicts] if any(one.trim for one in verdicts) else []
