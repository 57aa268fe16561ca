"""From logits to tokens that are told: a token is drawn for each row that has come out of the pipeline.

On one rank the tokens of a decode step are looked at while the next is being computed, so a sequence that ends is
noticed one step late; its row's surplus token is dropped. An answer's first token is looked at as soon as it is there.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import cast

import mlx.core as mx

from mlxserve.engine.adjustments import adjusted, note_drawn
from mlxserve.engine.decoding import Group
from mlxserve.engine.likelihoods import Likelihoods, likelihoods
from mlxserve.engine.messages import Failed, FinishReason, Likelihood, NewToken, PromptLikelihoods, Step
from mlxserve.engine.prefill import PromptBatch
from mlxserve.engine.sampler import sample
from mlxserve.engine.sequence import Sequence
from mlxserve.engine.verification import Guesses, Verdict, verify


@dataclass
class Flight:
    """An item on its way whose logits are wanted, and the sequences of its rows."""

    sequences: list[Sequence]
    origin: Group | PromptBatch
    last: bool = True
    """Whether tokens are drawn from what lands: not so for a prompt's first chunks."""
    guesses: Guesses | None = None
    """Which are verified by what lands."""
    targets: list[int] = field(default_factory=list)
    """The prompt's tokens that follow those of this chunk, where their likelihoods are wanted."""

    @property
    def decodes(self) -> bool:
        """Whether it brings just the next token of answers that have begun."""
        return isinstance(self.origin, Group) and not self.guesses


@dataclass(frozen=True)
class Drawn:
    """Tokens drawn for the rows of a flight, perhaps not computed yet."""

    sequences: list[Sequence]
    tokens: mx.array
    likelihoods: Likelihoods | None


class Drawing:
    """Draws tokens, looks at them as late as it may, and tells them."""

    def __init__(self) -> None:
        self._unread: deque[Drawn] = deque()
        self._due: list[mx.array] = []

    @property
    def unread(self) -> bool:
        """Whether tokens have been drawn that nobody has looked at."""
        return bool(self._unread)

    def draw(self, sequences: list[Sequence], logits: mx.array, step: Step) -> mx.array:
        """Draw a token for each of `sequences` from `logits` [rows, vocabulary]: [rows, 1], which `compute` starts."""
        if any(sequence.matcher for sequence in sequences):
            self.read(step)  # grammars go on from tokens that are known
        settings = [sequence.sampling for sequence in sequences]
        tokens = sample(adjusted(logits, sequences), settings, [sequence.sampled for sequence in sequences])
        note_drawn(tokens, sequences)
        for sequence in sequences:
            sequence.sampled += 1
            if sequence.matcher and sequence.matcher.error and not sequence.done:
                sequence.done = True
                step.failed.append(Failed(sequence.id, sequence.matcher.error))
        alternatives = max(sequence.top_logprobs for sequence in sequences)
        told = likelihoods(logits, tokens, alternatives) if alternatives >= 0 else None
        # Computed in one go with what is read: a reshaping of its own was seen to hold up the next step by 0.4 ms.
        inputs = tokens[:, None]
        self._due += [tokens, inputs, *(told.arrays if told else [])]
        self._unread.append(Drawn(list(sequences), tokens, told))
        return inputs

    def compute(self) -> None:
        """Start to compute all that was drawn."""
        mx.async_eval(self._due)  # type: ignore[no-untyped-call]
        self._due = []

    def verify(self, flight: Flight, logits: mx.array, step: Step) -> list[Verdict]:
        """Draw tokens for each row of `logits` [rows, positions, vocabulary] as far as its guesses are right."""
        assert flight.guesses is not None
        verdicts = verify(logits, flight.sequences, flight.guesses)
        for sequence, verdict in zip(flight.sequences, verdicts, strict=True):
            sequence.read -= verdict.trim
            if verdict.error:
                sequence.done = True
                step.failed.append(Failed(sequence.id, verdict.error))
            for token, likelihood in zip(verdict.tokens, verdict.likelihoods, strict=True):
                self._tell(sequence, token, likelihood, step)
        return verdicts

    def tell_prompt(self, flight: Flight, logits: mx.array, step: Step) -> None:
        """The likelihoods of a prompt's tokens, from `logits` [positions, vocabulary]."""
        (sequence,) = flight.sequences
        if not sequence.done:
            found = likelihoods(logits[: len(flight.targets)], mx.array(flight.targets), max(0, sequence.top_logprobs))
            told = found.told([max(0, sequence.top_logprobs)] * len(flight.targets))
            step.prompts.append(PromptLikelihoods(sequence.id, [one for one in told if one]))

    def read(self, step: Step, leave: int = 0) -> None:
        """Look at all drawn tokens but those of the last `leave` flights, which are still being computed."""
        while len(self._unread) > leave:
            drawn = self._unread.popleft()
            # Nothing may be computed for this: it would queue behind the step that has just been started.
            tokens = cast("list[int]", drawn.tokens.tolist())
            told = drawn.likelihoods.told([one.top_logprobs for one in drawn.sequences]) if drawn.likelihoods else []
            for sequence, token, likelihood in zip_longest(drawn.sequences, tokens, told):
                if not sequence.done:
                    self._tell(sequence, token, likelihood, step)
                    if sequence.matcher and not sequence.done:
                        sequence.matcher.accept(token)

    def _tell(self, sequence: Sequence, token: int, likelihood: Likelihood | None, step: Step) -> None:
        """`token` is the next of a sequence that goes on."""
        sequence.tokens.append(token)
        sequence.emitted += 1
        finish: FinishReason | None = None
        if token in sequence.stop_tokens:
            finish = "stop"
        elif sequence.emitted >= sequence.max_tokens:
            finish = "length"
        sequence.done = finish is not None
        step.tokens.append(NewToken(sequence.id, token, finish, likelihood))
