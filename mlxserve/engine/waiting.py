"""Sequences whose tokens are yet to be read, and which of them are read next, together."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

from mlxserve.engine.memory import Ledger
from mlxserve.engine.prefill import MOST_PADDING
from mlxserve.engine.prefix import PrefixIndex
from mlxserve.engine.prefix_node import common_length
from mlxserve.engine.sequence import Sequence
from mlxserve.engine.turns import Turns
from mlxserve.pipeline.plan import Span

WORTH_WAITING = 48
"""Tokens in common with a prompt that is being read, from which on another waits for them instead of reading them."""
MOST_LOOKED_AT = 64
"""Of many that wait, those from which the next are taken: each costs some microseconds, long ones more."""
BORDER_STEP = 2048
"""Tokens between the snapshots of caches that cannot be cut."""


@dataclass
class Taken:
    """What is read together, as the rows of one batch."""

    sequences: list[Sequence] = field(default_factory=list)
    prefixes: list[list[Span]] = field(default_factory=list)
    """What each row begins with."""
    borders: list[int] = field(default_factory=list)
    """Of a single row, numbers of tokens after which its caches are to be stored."""


class Waiting:
    """The queue before the prompts that are being read."""

    def __init__(self, ledger: Ledger, prefixes: PrefixIndex | None) -> None:
        self._ledger = ledger
        self._prefixes = prefixes
        self._queue = Turns()

    def __bool__(self) -> bool:
        return bool(self._queue)

    @property
    def unread(self) -> int:
        """Tokens of all that wait."""
        return sum(sequence.unread for sequence in self._queue)

    def add(self, sequence: Sequence) -> None:
        """Take on a sequence, whose turn comes by what else its client has asked."""
        self._queue.add(sequence)

    def put_back(self, sequence: Sequence) -> None:
        """It was under way already: it goes before all others."""
        self._queue.put_back(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Nobody waits for it any more; without effect if it does not wait here."""
        self._queue.remove(sequence)

    def take(
        self, most_rows: int, running: list[int], under_way: list[Sequence], most_tokens: int, whole: int
    ) -> Taken:
        """Take what is best read together: as many as fit one pass of `most_tokens` without much filling.

        If the first is one of those that are read in a single pass, of up to `whole` tokens, no more than fit that.
        `running` are the lengths of all that have memory. What begins like a prompt that is `under_way`, or taken now,
        is left until that has been read and stored. A prompt whose own likelihoods are wanted is read alone.
        """
        taken = Taken()
        lengths = list(running)
        for sequence in list(islice(self._queue, MOST_LOOKED_AT)):
            if len(taken.sequences) == most_rows:
                break
            if self._is_being_read(sequence, [*under_way, *taken.sequences]):
                continue
            if not self._ledger.admits(lengths, len(sequence.tokens), sequence.max_tokens - sequence.sampled):
                break
            sequence.read = self._found(sequence)
            borders = self._borders(sequence)
            first = taken.sequences[0] if taken.sequences else sequence
            most = whole if first.unread <= whole else most_tokens
            if taken.sequences and (borders or taken.borders or not _fit([*taken.sequences, sequence], most)):
                break
            taken.sequences.append(sequence)
            taken.prefixes.append(self._begin(sequence))
            taken.borders = borders
            lengths.append(len(sequence.tokens))
            self._queue.take(sequence)
            if sequence.tells_prompt:
                break
        return taken

    def _found(self, sequence: Sequence) -> int:
        """How many of its tokens need not be read. The likelihoods of tokens are only known by reading them."""
        return 0 if self._prefixes is None or sequence.tells_prompt else self._prefixes.found(sequence.tokens)

    def _begin(self, sequence: Sequence) -> list[Span]:
        """The stored beginning of `sequence`, which counts as read from now on."""
        if self._prefixes is None or sequence.tells_prompt:
            return []
        match = self._prefixes.match(sequence.tokens)
        sequence.read = match.length
        if sequence.emitted == 0:
            sequence.cached = match.length
        return match.spans

    def _borders(self, sequence: Sequence) -> list[int]:
        """Where the caches of a model are to be stored that cannot be cut: so it must be read alone."""
        if self._prefixes is None or self._prefixes.cuttable or sequence.tells_prompt:
            return []
        wanted = [*sequence.borders, self._prefixes.wanted_border(sequence.tokens) or 0]
        steps = range(BORDER_STEP, len(sequence.tokens), BORDER_STEP)
        return sorted({border for border in [*wanted, *steps] if sequence.read < border < len(sequence.tokens)})

    def _is_being_read(self, sequence: Sequence, others: list[Sequence]) -> bool:
        if self._prefixes is None or not self._prefixes.cuttable or sequence.tells_prompt:
            return False
        stored = self._found(sequence)
        return any(
            common_length(sequence.tokens[:-1], other.tokens) - stored >= WORTH_WAITING
            for other in others
            if not other.done and self._prefixes.fits(len(other.tokens))
        )


def _fit(sequences: list[Sequence], most_tokens: int) -> bool:
    if any(sequence.tells_prompt for sequence in sequences):
        return False
    lengths = [sequence.unread for sequence in sequences]
    padded = max(lengths) * len(lengths)
    return padded <= most_tokens and padded <= (1 + MOST_PADDING) * sum(lengths)
