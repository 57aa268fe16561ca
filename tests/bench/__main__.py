"""`python -m tests.bench`: every subject in turn, round after round, and the table of medians."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

from mlxserve.flags import whole

from .model import model_folder
from .server import SubjectError
from .subjects import Speeds, Work, subjects
from .table import LABELS, Results, report

Item = TypeVar("Item")


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the subject in progress is ended
    args = _flags().parse_args()
    work = Work(model_folder(), args.streams, args.tokens, args.common_prefix)
    try:
        results = _measure(work, args.subjects, args.rounds)
    except SubjectError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    prompts = "one system prompt in common" if work.common_prefix else "no beginning in common"
    print(f"Answers of {work.tokens} tokens, prompts with {prompts}.\n")
    print(report(results, work.streams))
    return 0


def _measure(work: Work, names: tuple[str, ...], rounds: int) -> Results:
    measures = subjects()
    results: Results = {name: [] for name in names}
    for number in range(1, rounds + 1):
        for name in names:
            speeds = measures[name](work)
            _say(f"round {number} of {rounds}: {LABELS[name]}: {_summary(speeds)}")
            results[name].append(speeds)
    return results


def _summary(speeds: Speeds) -> str:
    return " / ".join(f"{speed.tokens_per_second:.1f}" for speed in speeds.values()) + " tokens/s"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = tuple(subjects())
    parser.add_argument("--rounds", type=whole(1), default=3, metavar="N", help="measurements of each (default: 3)")
    parser.add_argument(
        "--subjects", type=_listed(_one_of(names)), default=names, metavar="NAME,NAME",
        help=f"which are measured (default: all: {', '.join(names)})",
    )  # fmt: skip
    parser.add_argument(
        "--streams", type=_listed(whole(1)), default=(1, 4, 8), metavar="N,N", help="chats at a time (default: 1,4,8)"
    )
    parser.add_argument("--tokens", type=whole(1), default=32, metavar="N", help="tokens of a chat (default: 32)")
    parser.add_argument(
        "--common-prefix", action="store_true",
        help="begin all prompts with the same system prompt, which a server may reuse; by default they differ at once",
    )  # fmt: skip
    return parser


def _listed(read: Callable[[str], Item]) -> Callable[[str], tuple[Item, ...]]:
    return lambda text: tuple(read(part.strip()) for part in text.split(","))


def _one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise argparse.ArgumentTypeError(f"must be among {', '.join(names)}, not {text!r}")
        return text

    return read


if __name__ == "__main__":
    sys.exit(main())
