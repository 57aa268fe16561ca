"""How fast answers come: mlxserve, its peer and the bare loop, with the same requests at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median

import msgspec

from mlxserve.bench.figures import rates
from mlxserve.bench.load import Run
from mlxserve.bench.workloads import WORKLOADS, Workload, opening, word

from .asking import asked, median_first
from .goals import Goal, paired
from .server import Server, SubjectError
from .setup import NO_GUESSES, Setup, say
from .subjects import LABELS, Start, bare_pair_speeds, bare_speeds, serving

STREAMS = (1, 4, 8, 16)
DECODE_TOKENS = 64
REQUESTS = 4
"""Of each stream, one after the other: what gathers requests now and then is seen to lose or win by it."""
ONE_RANK = ("bare", "mlxserve", "mlxserve-guessing", "peer")
TWO_RANKS = ("bare-2", "bare", "mlxserve-2", "mlxserve-2-guessing", "peer-2-bare", "peer-2-launch")
"""In this order: what is compared is measured close together."""
ALONE = ("peer-2-bare", "peer-2-launch")
"""These take CPU time even while they idle: others are not measured beside them."""
PLAIN = ("mlxserve", "mlxserve-2")
"""Without guesses, as they are compared with the bare loop's decoding; with them it runs as it starts by default."""


class Speed(msgspec.Struct, frozen=True):
    """Of one subject in one round: tokens per second with prompts counted; decoding alone; seconds to first text."""

    tokens: float = 0.0
    decode: float = 0.0
    together: float = 0.0
    first: float = 0.0


Speeds = dict[str, dict[int, list[Speed]]]
"""By subject, by streams, one a round."""


Loads = tuple[Workload, Workload]
"""For tokens with prompts counted, and for decoding alone."""


class _Servers:
    """Those of one round. They stay until its end, but for those that are to be alone."""

    def __init__(self, stack: ExitStack, start: Callable[..., Start]) -> None:
        self._stack = stack
        self._start = start
        self._staying: dict[str, tuple[str, Server]] = {}

    def measure(self, subject: str, streams: int, tokens: int, loads: Loads) -> Speed:
        """With so many streams. Raises SubjectError."""
        if subject == "bare":
            ((decode, whole),) = bare_speeds(self._start(), (streams,), DECODE_TOKENS, tokens)
            return Speed(whole, decode)
        if subject == "bare-2":
            (decode,) = bare_pair_speeds(self._start(), (streams,), DECODE_TOKENS)
            return Speed(decode=decode)
        with self._serving(subject) as (url, server):
            try:
                return _speed(url, subject in PLAIN, streams, tokens, loads)
            except SubjectError as error:
                raise server.failure(str(error)) from error

    @contextmanager
    def _serving(self, subject: str) -> Iterator[tuple[str, Server]]:
        start = self._start(*(NO_GUESSES if subject in PLAIN else ()))
        if subject in ALONE:
            with serving(subject, start) as alone:
                yield alone
            return
        if subject not in self._staying:
            self._staying[subject] = self._stack.enter_context(serving(subject, start))
        yield self._staying[subject]


LONG = Workload(
    "long-answers",
    "answers of a real model, no question twice",
    lambda number: [
        [
            {"role": "system", "content": opening(number)},
            {"role": "user", "content": f"Write a long list of {number} facts about the {word(number)}."},
        ]
    ],
)
LONG_AT_ONCE = msgspec.structs.replace(LONG, at_once=True)


class SpeedPart:
    """One model, measured by `subjects` in turn."""

    def __init__(self, name: str, subjects: tuple[str, ...], packaged: bool) -> None:
        self.name = name
        self._subjects = subjects
        self._streams = STREAMS if subjects == ONE_RANK else STREAMS[:3]
        self._packaged = packaged
        self._loads = (LONG, LONG_AT_ONCE) if packaged else (WORKLOADS["chat"], WORKLOADS["burst"])
        self.speeds: Speeds = {subject: defaultdict(list) for subject in subjects}

    def run(self, setup: Setup) -> list[Goal]:
        """Measure all rounds; what a subject fails at is told and left out."""
        for number in range(1, setup.rounds + 1):
            say(f"{self.name}, round {number} of {setup.rounds}")
            with ExitStack() as stack:
                self._round(setup, _Servers(stack, setup.endless if self._packaged else setup.random))
        return self._goals()

    def _round(self, setup: Setup, servers: _Servers) -> None:
        """All subjects one after the other at each number of streams, since the machine's speed changes with time."""
        for streams in self._streams:
            for subject in self._subjects:
                try:
                    speed = servers.measure(subject, streams, setup.tokens, self._loads)
                except SubjectError as error:
                    say(f"{self.name}: {LABELS[subject]} failed: {error}")
                    continue
                say(f"{_streams(streams)}: {LABELS[subject]}: {speed.tokens or speed.decode:.1f} tokens/s")
                self.speeds[subject][streams].append(speed)

    def tables(self) -> list[list[str]]:
        """Rows of a table: subject, figure, then medians by streams."""
        rows = []
        for subject in self._subjects:
            for field, label in (("tokens", "tokens/s"), ("decode", "decode/s"), ("together", "all running/s")):
                cells = [_told([getattr(one, field) for one in self.speeds[subject][n]]) for n in STREAMS]
                rows += [[LABELS[subject], label, *cells]] if any(cell != "-" for cell in cells) else []
            firsts = [_told([1000 * one.first for one in self.speeds[subject][n]], "{:.0f}") for n in STREAMS]
            rows += [[LABELS[subject], "first token, ms", *firsts]] if any(cell != "-" for cell in firsts) else []
        return rows

    def _goals(self) -> list[Goal]:
        goals = []
        if "mlxserve" in self._subjects:
            goals += self._decode("mlxserve", (1, 4, 8, 16), 0.95)
            goals += self._tokens("mlxserve", "peer", {1: 1.03, 4: 1.25, 8: 1.3, 16: 1.3})
        if "mlxserve-2" in self._subjects:
            goals += self._decode("mlxserve-2", (1, 4, 8), 0.90)
            goals += self._tokens("mlxserve-2", "peer-2-bare", {1: 1.0, 4: 1.1, 8: 1.3})
            goals += self._tokens("mlxserve-2", "peer-2-launch", {1: 2.0, 4: 2.0, 8: 2.0})
        return goals

    def _decode(self, subject: str, streams: tuple[int, ...], bound: float) -> list[Goal]:
        goals = []
        for number in streams:
            ours, bare = self.speeds[subject][number], self.speeds["bare"][number]
            ratios = paired([one.decode for one in ours], [one.decode for one in bare])
            together = paired([one.together for one in ours], [one.decode for one in bare])
            note = f"while all run: {median(together):.2f}" if together else ""
            if subject == "mlxserve-2":
                note += self._limit_of_two(number)
            what = f"{LABELS[subject]}: decode rate / bare loop's, {_streams(number)}"
            goals.append(Goal(self.name, what, "≥", bound, ratios, note))
        return goals

    def _limit_of_two(self, streams: int) -> str:
        pair, bare = self.speeds["bare-2"][streams], self.speeds["bare"][streams]
        ratios = paired([one.decode for one in pair], [one.decode for one in bare])
        return f"; {LABELS['bare-2']}: {median(ratios):.2f}" if ratios else ""

    def _tokens(self, subject: str, peer: str, bounds: dict[int, float]) -> list[Goal]:
        goals = []
        for number, bound in bounds.items():
            theirs = [one.tokens for one in self.speeds[peer][number]]
            whole, plain, bare = (
                paired([speed.tokens for speed in self.speeds[one][number]], theirs)
                for one in (f"{subject}-guessing", subject, "bare")
            )
            what = f"{LABELS[f'{subject}-guessing']}: tokens/s / {LABELS[peer]}'s, {_streams(number)}"
            beside = (("--speculation off", plain), ("the bare loop with prompts", bare))
            note = "; ".join(f"{name}: {median(found):.2f}" for name, found in beside if found)
            goals.append(Goal(self.name, what, "≥", bound, whole, note))
        return goals


def _speed(url: str, decoding: bool, streams: int, tokens: int, loads: Loads) -> Speed:
    chat, burst = loads
    chats = _whole(asked(url, chat, streams, REQUESTS * streams, tokens), tokens)
    of_chats = rates(chats)
    assert of_chats is not None
    of_burst = None
    if decoding:
        together = asked(url, burst, streams, streams, DECODE_TOKENS, warm=True)
        of_burst = rates(_whole(together, DECODE_TOKENS))
    return Speed(
        of_chats.tokens_per_second,
        of_burst.decode_per_second if of_burst else 0.0,
        of_burst.together_per_second if of_burst else 0.0,
        median_first(chats.answers),
    )


def _whole(done: Run, tokens: int) -> Run:
    if short := sum(answer.tokens != tokens for answer in done.answers):
        raise SubjectError(f"{short} of {len(done.answers)} answers have not the {tokens} tokens that were asked for")
    return done


def _told(values: list[float], shown: str = "{:.1f}") -> str:
    if not any(values):
        return "-"
    low, high = shown.format(min(values)), shown.format(max(values))
    return f"{shown.format(median(values))} ({low}-{high})"


def _streams(number: int) -> str:
    return f"{number} stream" + "s" * (number > 1)
