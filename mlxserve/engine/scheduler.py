"""Continuous batching: sequences join and leave a running batch at any step; prompts are read between its steps.

Each `step` decides what enters the pipeline, moves the pipeline on by a tick, samples from the logits that left it, and
reports tokens. On one rank the next step is on its way before the tokens of the last are looked at, so a sequence that
ends is noticed one step late; its row's surplus token is dropped.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import zip_longest

import mlx.core as mx

from mlxserve.engine.adjustments import adjusted, note_drawn
from mlxserve.engine.likelihoods import Likelihoods, likelihoods
from mlxserve.engine.messages import (
    Failed,
    FinishReason,
    Likelihood,
    NewToken,
    PromptLikelihoods,
    Reading,
    Step,
)
from mlxserve.engine.prefill import PromptBatch, take_together
from mlxserve.engine.sampler import sample
from mlxserve.engine.sequence import Sequence
from mlxserve.pipeline.pipeline import Pipeline, Work, token_rows
from mlxserve.pipeline.plan import CacheOperation, Join, Keep, Open

RUNNING = 0
"""The number of the batch that is being decoded; prompt batches have numbers from 1."""

MOST_CHUNKS_BETWEEN_STEPS = 4
"""Chunks of prompts that are read before sequences that run get their next token."""


@dataclass(frozen=True)
class Limits:
    """How much is done at once."""

    decode_concurrency: int
    prompt_concurrency: int
    chunk: int


@dataclass
class Flight:
    """An item on its way whose logits are wanted, and the sequences of its rows."""

    sequences: list[Sequence]
    prompts: PromptBatch | None = None
    last: bool = True
    """Whether tokens are drawn from what lands: not so for a prompt's first chunks."""
    targets: list[int] = field(default_factory=list)
    """The prompt's tokens that follow those of this chunk, where their likelihoods are wanted."""


@dataclass(frozen=True)
class Drawn:
    """Tokens drawn for the rows of a flight, perhaps not computed yet."""

    flight: Flight
    tokens: mx.array
    likelihoods: Likelihoods | None


@dataclass
class RunningBatch:
    """The sequences being decoded: row i of the KV caches and of `inputs` is sequences[i]."""

    sequences: list[Sequence] = field(default_factory=list)
    inputs: mx.array | None = None
    """The token that each row goes on with, [rows]; None while a step is on its way."""


class Scheduler:
    """Decides, tick by tick, what the pipeline works on."""

    def __init__(self, pipeline: Pipeline, limits: Limits) -> None:
        self._pipeline = pipeline
        rows = limits.decode_concurrency if pipeline.batchable else 1
        self._limits = Limits(rows, min(rows, limits.prompt_concurrency), limits.chunk)
        self._waiting: deque[Sequence] = deque()
        self._reading: deque[PromptBatch] = deque()
        self._joining: list[tuple[PromptBatch, mx.array]] = []
        self._running = RunningBatch()
        self._flights: deque[Flight] = deque()
        self._unread: deque[Drawn] = deque()
        self._open: dict[int, Sequence] = {}
        self._batches = RUNNING
        self._chunks_since_decode = 0

    @property
    def busy(self) -> bool:
        """Whether there is anything to do."""
        return bool(
            self._waiting
            or self._reading
            or self._joining
            or self._running.sequences
            or self._unread
            or self._pipeline.in_flight
        )

    def add(self, sequence: Sequence) -> None:
        """Take on a sequence."""
        self._open[sequence.id] = sequence
        self._waiting.append(sequence)

    def cancel(self, number: int) -> None:
        """Drop a sequence wherever it is; unknown ones are ignored."""
        sequence = self._open.pop(number, None)
        if sequence is not None:
            sequence.done = True
            if sequence in self._waiting:
                self._waiting.remove(sequence)

    def step(self) -> Step:
        """One tick. Returns what it brought."""
        operations: list[CacheOperation] = []
        reading: list[Reading] = []
        work = self._schedule(operations, reading)
        logits = self._pipeline.tick(operations, work, nothing_follows=not self._more_to_read)
        step = Step([], reading)
        if logits is not None:
            self._land(logits, step)
        still_computed = 1 if self._pipeline.depth == 1 and logits is not None else 0
        self._read_tokens(still_computed, step)
        return step

    def _schedule(self, operations: list[CacheOperation], reading: list[Reading]) -> Work | None:
        """Choose the item that enters: a decode step, a chunk of prompts, or nothing."""
        self._drop_abandoned(operations)
        self._admit(operations)
        prompts = self._next_prompts()
        can_decode = self._running.inputs is not None or (not self._running.sequences and bool(self._joining))
        if can_decode and not (prompts and self._prompts_first()) and self._regroup(operations):
            self._chunks_since_decode = 0
            return self._decode()
        if prompts is None:
            return None
        self._chunks_since_decode += 1
        return self._read_chunk(prompts, reading)

    @property
    def _more_to_read(self) -> bool:
        """Whether prompts could enter while something is on its way."""
        return self._next_prompts() is not None or (bool(self._waiting) and self._room() > 0)

    def _prompts_first(self) -> bool:
        """Whether a chunk of prompts goes before the next decode step.

        They take turns. But a decode step takes about as long for one sequence as for eight, so a few that run let
        more that are read catch up with them, within bounds.
        """
        running = len(self._running.sequences) + sum(len(batch.sequences) for batch, _ in self._joining)
        read = len(self._waiting) + sum(len(batch.sequences) for batch in self._reading)
        return self._chunks_since_decode < min(MOST_CHUNKS_BETWEEN_STEPS, max(1, read // max(1, running)))

    def _admit(self, operations: list[CacheOperation]) -> None:
        """Open a batch for waiting prompts, if none is being read and there is room."""
        room = self._room()
        if not self._waiting or room < 1 or self._next_prompts():
            return
        self._batches += 1
        batch = PromptBatch(self._batches, take_together(self._waiting, room, self._limits.chunk))
        self._reading.append(batch)
        operations.append(Open(batch.batch, len(batch.sequences)))

    def _room(self) -> int:
        """How many more prompts can be read now."""
        rows = len(self._running.sequences) + sum(len(batch.sequences) for batch, _ in self._joining)
        rows += sum(len(batch.sequences) for batch in self._reading)
        return min(self._limits.decode_concurrency - rows, self._limits.prompt_concurrency)

    def _next_prompts(self) -> PromptBatch | None:
        return next((batch for batch in self._reading if not batch.wholly_entered), None)

    def _read_chunk(self, prompts: PromptBatch, reading: list[Reading]) -> Work:
        work = prompts.next_chunk(self._limits.chunk)
        reading.extend(Reading(one.id, one.read, len(one.prompt)) for one in prompts.sequences if not one.done)
        if prompts.wholly_entered or work.logits == "all":
            self._flights.append(Flight(prompts.sequences, prompts, prompts.wholly_entered, prompts.targets(work)))
        return work

    def _drop_abandoned(self, operations: list[CacheOperation]) -> None:
        for batch in [batch for batch in self._reading if batch.abandoned and not batch.wholly_entered]:
            self._reading.remove(batch)
            operations.append(Keep(batch.batch, []))

    def _regroup(self, operations: list[CacheOperation]) -> bool:
        """Drop finished rows, let prompts that have been read join. Returns whether rows are left to decode."""
        running = self._running
        if running.sequences:
            running.inputs = self._keep_alive(RUNNING, running.sequences, running.inputs, operations)
            running.sequences = [one for one in running.sequences if one.alive]
        for batch, tokens in self._joining:
            inputs = self._keep_alive(batch.batch, batch.sequences, tokens, operations)
            if inputs is None:
                continue
            operations.append(Join(RUNNING, batch.batch))
            running.sequences += [one for one in batch.sequences if one.alive]
            running.inputs = inputs if running.inputs is None else mx.concatenate([running.inputs, inputs])
        self._joining.clear()
        return bool(running.sequences)

    def _keep_alive(
        self, batch: int, sequences: list[Sequence], inputs: mx.array | None, operations: list[CacheOperation]
    ) -> mx.array | None:
        """The inputs of the rows that go on; None, and the batch is closed, if none does."""
        rows = [row for row, sequence in enumerate(sequences) if sequence.alive]
        if len(rows) == len(sequences):
            return inputs
        operations.append(Keep(batch, rows))
        return inputs[mx.array(rows)] if rows and inputs is not None else None

    def _decode(self) -> Work:
        assert self._running.inputs is not None
        work = Work(RUNNING, self._running.inputs[:, None], [], "last")
        self._running.inputs = None
        self._flights.append(Flight(list(self._running.sequences)))
        return work

    def _land(self, logits: mx.array, step: Step) -> None:
        """A flight has landed: draw a token for each of its rows from `logits` [rows, positions, vocabulary]."""
        flight = self._flights.popleft()
        if flight.targets:
            self._tell_prompt(flight, logits[0], step)
        if not flight.last:
            return
        if any(sequence.matcher for sequence in flight.sequences):
            self._read_tokens(0, step)  # grammars go on from tokens that are known
        drawn = self._draw(flight, logits[:, -1], step)
        for sequence in flight.sequences:
            sequence.sampled += 1
        if flight.prompts is None:
            self._running.inputs = drawn.tokens
        else:
            self._reading.remove(flight.prompts)
            self._joining.append((flight.prompts, drawn.tokens))
        self._unread.append(drawn)

    def _draw(self, flight: Flight, logits: mx.array, step: Step) -> Drawn:
        sequences = flight.sequences
        settings = [sequence.sampling for sequence in sequences]
        tokens = sample(adjusted(logits, sequences), settings, [sequence.sampled for sequence in sequences])
        note_drawn(tokens, sequences)
        for sequence in sequences:
            if sequence.matcher and sequence.matcher.error and not sequence.done:
                self._close(sequence)
                step.failed.append(Failed(sequence.id, sequence.matcher.error))
        alternatives = max(sequence.top_logprobs for sequence in sequences)
        told = likelihoods(logits, tokens, alternatives) if alternatives >= 0 else None
        mx.async_eval(tokens, *(told.arrays if told else []))  # type: ignore[no-untyped-call]
        return Drawn(flight, tokens, told)

    def _tell_prompt(self, flight: Flight, logits: mx.array, step: Step) -> None:
        (sequence,) = flight.sequences
        if not sequence.done:
            found = likelihoods(logits[: len(flight.targets)], mx.array(flight.targets), max(0, sequence.top_logprobs))
            told = found.told([max(0, sequence.top_logprobs)] * len(flight.targets))
            step.prompts.append(PromptLikelihoods(sequence.id, [one for one in told if one]))

    def _read_tokens(self, leave: int, step: Step) -> None:
        """Look at the drawn tokens of all flights but the last `leave`, which are still being computed."""
        while len(self._unread) > leave:
            drawn = self._unread.popleft()
            sequences = drawn.flight.sequences
            tokens = token_rows(drawn.tokens[None])[0]
            told = drawn.likelihoods.told([one.top_logprobs for one in sequences]) if drawn.likelihoods else []
            for sequence, token, likelihood in zip_longest(sequences, tokens, told):
                if not sequence.done:
                    step.tokens.append(self._emit(sequence, token, likelihood))

    def _emit(self, sequence: Sequence, token: int, likelihood: Likelihood | None) -> NewToken:
        sequence.emitted += 1
        finish: FinishReason | None = None
        if token in sequence.stop_tokens:
            finish = "stop"
        elif sequence.emitted >= sequence.max_tokens:
            finish = "length"
        elif sequence.matcher:
            sequence.matcher.accept(token)
        new = NewToken(sequence.id, token, finish, likelihood)
        if new.finish:
            self._close(sequence)
        return new

    def _close(self, sequence: Sequence) -> None:
        sequence.done = True
        del self._open[sequence.id]
