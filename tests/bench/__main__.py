"""`python -m tests.bench`: everything that the benchmark must show, part by part; writes BENCHMARKS.md."""

from __future__ import annotations

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from mlxserve.bench.flags import listed, one_of
from mlxserve.flags import whole

from .goals import Goal
from .prompts import long_prompts, prefixes, turns
from .report import summary, write
from .running import front, many, speculation, stalls
from .server import SubjectError
from .setup import Setup, say
from .speed import ONE_RANK, TWO_RANKS, SpeedPart

SPEED = (
    SpeedPart("random model", ONE_RANK, packaged=False),
    SpeedPart("random model, 2 ranks", TWO_RANKS, packaged=False),
    SpeedPart("packaged model", ONE_RANK, packaged=True),
)
PARTS: dict[str, Callable[[Setup], list[Goal]]] = {
    "speed": SPEED[0].run,
    "speed-2": SPEED[1].run,
    "speed-packaged": SPEED[2].run,
    "long-prompt": long_prompts,
    "prefix": prefixes,
    "turns": turns,
    "speculation": speculation,
    "many": many,
    "stalls": stalls,
    "front": front,
}


def main() -> int:
    """Run the parts that are wanted; 130 if interrupted, having written what there is."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the subject in progress is ended
    args = _flags().parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)
    setup = Setup(args.rounds, args.threads, args.tokens)
    goals: list[Goal] = []
    code = 0
    try:
        for name in args.only:
            goals += _part(name, setup)
    except KeyboardInterrupt:
        code = 130
    command = shlex.join(["python", "-m", "tests.bench", *sys.argv[1:]])
    write(args.output, goals, list(SPEED), setup, command, keep=args.keep)
    print(summary(goals))
    return code


def _part(name: str, setup: Setup) -> list[Goal]:
    """The goals of one part; one that fails is told, and does not end the run."""
    try:
        return PARTS[name](setup)
    except SubjectError as error:
        say(f"{name} failed: {error}")
        return [Goal(name, f"the part could not be measured: {str(error).splitlines()[0]}", "≥", 1.0, [])]


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=whole(1), default=5, metavar="N", help="measurements of each (default: 5)")
    parser.add_argument(
        "--only", type=listed(one_of(tuple(PARTS))), default=tuple(PARTS), metavar="NAME,NAME",
        help=f"which parts are run (default: all: {', '.join(PARTS)})",
    )  # fmt: skip
    parser.add_argument(
        "--keep", action="store_true", help="leave in the page what former runs measured of the other parts"
    )
    parser.add_argument("--tokens", type=whole(1), default=32, metavar="N", help="tokens of a chat (default: 32)")
    parser.add_argument(
        "--threads", type=whole(1), default=1, metavar="N",
        help="OpenBLAS's threads a rank, of all subjects (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--output", type=Path, default=Path("BENCHMARKS.md"), metavar="FILE",
        help="where to write the page; its figures go beside it as JSON (default: BENCHMARKS.md)",
    )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
