"""A measurement: workloads, numbers of streams, rounds; of one server, or of two in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import msgspec

from mlxserve.bench import load
from mlxserve.bench.figures import Figures, figures
from mlxserve.bench.load import Run
from mlxserve.bench.server import Server
from mlxserve.bench.workloads import Asking, Workload, conversations, numbers_from
from mlxserve.errors import UserError

WARM_UP_TOKENS = 4

Say = Callable[[str], None]


class Point(msgspec.Struct, frozen=True):
    """One line of a table: a workload at so many streams, `requests` conversations a round."""

    workload: Workload
    streams: int
    requests: int


class Subject(msgspec.Struct, frozen=True):
    """A server, and the name of its model."""

    server: Server
    model: str


class Measured(msgspec.Struct, frozen=True):
    """A point's figures, one of each subject; `ratios` of tokens per second, first subject to second, one a round."""

    point: Point
    figures: list[Figures]
    ratios: list[float]

    @property
    def whole(self) -> bool:
        """Whether nothing was interrupted."""
        return all(each.whole for each in self.figures)


class Sweep(msgspec.Struct, frozen=True):
    """How the points are measured: the same requests to every subject, but no two rounds with the same."""

    subjects: list[Subject]
    asking: Asking
    rounds: int
    seed: int
    say: Say


def points(workloads: list[Workload], streams: list[int], requests: int) -> list[Point]:
    """All to be measured; `requests` 0 is twice as many as streams, and at least four."""
    found = []
    for workload in workloads:
        for number in streams:
            count = number if workload.at_once else (requests or max(4, 2 * number))
            point = Point(workload, number, count)
            found.append(point)
    return found


def measure(sweep: Sweep, wanted: list[Point]) -> Iterator[Measured]:
    """The points' figures as they come; ends early where a point was interrupted. Raises UserError."""
    numbers = numbers_from(sweep.seed)
    for point in wanted:
        measured = _point(sweep, point, numbers)
        yield measured
        if not measured.whole:
            return


def _point(sweep: Sweep, point: Point, numbers: Iterator[int]) -> Measured:
    runs: list[list[Run]] = [[] for _ in sweep.subjects]
    warm = _warm_up(sweep, point, numbers)
    for number in range(sweep.rounds if warm else 0):
        order = list(range(len(sweep.subjects)))
        own = list(islice(numbers, point.requests))
        for index in order if number % 2 == 0 else reversed(order):
            runs[index].append(_run(sweep, index, point, own, sweep.asking))
            if not runs[index][-1].whole:
                return _measured(point, runs)
        sweep.say(f"{point.workload.name}, {_streams(point.streams)}: round {number + 1} of {sweep.rounds}")
    return _measured(point, runs, warm)


def _run(sweep: Sweep, index: int, point: Point, numbers: list[int], asking: Asking) -> Run:
    subject = sweep.subjects[index]
    asking = msgspec.structs.replace(asking, model=subject.model)
    return load.run(subject.server, conversations(point.workload, asking, iter(numbers)), point.streams)


def _warm_up(sweep: Sweep, point: Point, numbers: Iterator[int]) -> bool:
    """Ask every subject a little, unmeasured; False where that was interrupted. Raises UserError if none answers."""
    short = msgspec.structs.replace(sweep.asking, tokens=WARM_UP_TOKENS)
    own = list(islice(numbers, min(point.streams, point.requests)))
    for index, subject in enumerate(sweep.subjects):
        run = _run(sweep, index, point, own, short)
        if not run.whole:
            return False
        if all(answer.error for answer in run.answers):
            raise UserError(explained(subject.server.url, run.answers[0].error))
    return True


def explained(url: str, error: str) -> str:
    """The sentence for a server that answers nothing, with what to do."""
    advice = ""
    if error.startswith(("status 401", "status 403")):
        advice = "; name a key with --api-key, or in MLXSERVE_API_KEY"
    elif error.startswith("status 404"):
        advice = "; is it the address of an API like OpenAI's, and the model's name (--model) right?"
    return f"{url} answers no request: {error}{advice}"


def _measured(point: Point, runs: list[list[Run]], whole: bool = True) -> Measured:
    found = [figures(point.workload.name, point.streams, each) for each in runs]
    if not whole:
        found = [msgspec.structs.replace(each, whole=False) for each in found]
    return Measured(point, found, _ratios(found))


def _ratios(found: list[Figures]) -> list[float]:
    if len(found) < 2:
        return []
    rounds = zip(found[0].rounds, found[1].rounds, strict=False)
    return [ours.tokens_per_second / theirs.tokens_per_second for ours, theirs in rounds if theirs.tokens_per_second]


def _streams(number: int) -> str:
    return f"{number} stream" + "s" * (number > 1)
