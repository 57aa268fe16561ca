"""How the time is shared between answers that are being written and prompts that are being read."""

from __future__ import annotations

from mlxserve.engine.pace import Kind, Pace
from mlxserve.engine.prefill import MOST_CHUNK_TOKENS

_LONGEST_PAUSE = 1.6
"""So many steps' worth of time is saved up before prompts are read with it, and no more is spent at once: the wait for
two tokens in three is then 2.6 times what it is without, and a little more at the ends of long prompts, which look at
more. Reading a few tokens takes nearly as long as reading many, since all weights must be read: with 1.5 steps' worth,
spent as it came, some prompts waited for their first token twice as long."""
_STEPS_FOR_A_WHOLE = 4.0
"""Prompts that take no longer than so many steps are read in one pass, before the time for it is saved: in pieces they
would take up to twice as long, and as long as they are read their rows are missing in the steps of the others. Less of
a small share: as many as that allows for with so many steps."""
_STEPS_AT_FIRST = 16
"""What prompts may take at once when answers have only just begun: those that came together are read together."""
_FEWEST_TOKENS = 8
"""Less is read only where no more is left: it would take as long."""


class Allowance:
    """Time in which prompts may be read while answers wait for their next token.

    Each decode step allows for so much that prompts have their share of the time: a step that takes 60 ms, with a share
    of 0.6, for 90 ms. So the time between two tokens grows by a bounded factor, however many prompts come: its mean by
    what the share says, and a single one by the longest pause, or by what each step allows where that is more. Short
    prompts are read whole all the same, if nothing is owed for others; what they take is owed to the steps after them.
    """

    def __init__(self, pace: Pace, share: float) -> None:
        self._pace = pace
        self._ratio = share / (1 - share)
        self._seconds = 0.0
        self._most = 0.0
        self._at_once = 0.0
        """What may be spent of it before the next step."""
        self._idle = True

    def nothing_runs(self) -> None:
        """No answer is being written."""
        self._idle = True

    def decode_step(self, tokens: int) -> None:
        """A decode step of so many tokens enters."""
        step = self._pace.seconds(tokens)
        allowed = self._ratio * step
        self._most = max(allowed, _LONGEST_PAUSE * step, self._fewest_seconds)
        if self._idle:
            self._seconds = self._at_once = allowed * _STEPS_AT_FIRST
        else:
            self._seconds = min(self._most, self._seconds) + allowed  # what this step brings is not lost on the bound
            self._at_once = self._most
        self._idle = False

    @property
    def _spendable(self) -> float:
        return min(self._seconds, self._at_once)

    @property
    def _fewest_seconds(self) -> float:
        """Enough for the fewest tokens: so much is saved also of a small share, or prompts would never be read."""
        passes = self._pace.tick(_FEWEST_TOKENS), self._pace.tick(_FEWEST_TOKENS, "together")
        return 1.01 * self._pace.ranks * max(passes)  # a little more than it takes, whatever is rounded

    def whole(self, decoding: int) -> int:
        """Up to how many tokens are read in one pass, beside decode steps of `decoding` tokens."""
        owed = min(1.0, self._ratio) * _STEPS_FOR_A_WHOLE * self._pace.seconds(decoding)
        return self._pace.largest(max(owed, self._spendable) / self._pace.ranks, MOST_CHUNK_TOKENS)

    def tokens(self, unread: int, decoding: int, gap: bool, whole: bool = False) -> int:
        """How many of `unread` tokens may be read now, beside a decode step of `decoding` tokens.

        `gap`: that step is at another rank, so a pass that takes no longer than it costs nothing. Else none are read
        before as much has been saved as may be, if that is enough for more. `whole`: these are all, so that short
        prompts can be read in one pass.
        """
        if whole and unread <= self.whole(decoding):
            return unread if self._seconds >= 0 else 0
        kind, free = self._tick(decoding, gap)
        tokens = self._pace.largest(self._spendable / self._pace.ranks + free, unread, kind=kind)
        wanted = _FEWEST_TOKENS if gap else self._pace.largest(self._most / self._pace.ranks, unread)
        return tokens if tokens >= min(unread, wanted) else 0

    def spend(self, tokens: int, decoding: int, gap: bool) -> None:
        """So many tokens are being read."""
        kind, free = self._tick(decoding, gap)
        seconds = self._pace.ranks * max(0.0, self._pace.tick(tokens, kind) - free)
        self._seconds -= seconds
        self._at_once -= seconds

    def _tick(self, decoding: int, gap: bool) -> tuple[Kind, float]:
        """Of the tick in which prompts are read: its kind, and the seconds of it that cost nothing."""
        return ("together", self._pace.tick(decoding)) if gap else ("alone", 0.0)
