"""The flags of `mlxserve bench`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import TypeVar

from mlxserve.bench.request import BenchRequest
from mlxserve.flags import number, text, whole
from mlxserve.keys import first_key

Item = TypeVar("Item")

NAMES = ("chat", "long-prompt", "shared-prefix", "agent", "burst", "edit")
STREAMS = (1, 4, 8, 16)
ROUNDS = 3

EPILOG = """\
workloads (each round asks for other things than the one before, so that no server knows the answers):
  chat           short prompts, all different
  long-prompt    prompts of about 600 tokens, short answers
  shared-prefix  a system prompt of about 1,000 tokens in common
  agent          conversations of 8 turns that grow, with tool results
  burst          all requests at once: as many as --streams says
  edit           code repeated with a small change: speculation shows

what is measured:
  tokens/s    all answers' tokens, from the first request to the last byte; reading prompts counts
  decode/s    tokens after each answer's first, all together, over the time in which any answer is past its first
  first       from a request to its first token, be it text, reasoning or a tool call
  between     from one token of an answer to its next; where events hold several, divided by their average
  cached      the share of the prompts' tokens that the server says it had stored
Tokens are those that the server counts (usage); where it counts none, events are counted, and it is said.
Columns show the median of the rounds, with the lowest and the highest; times are of all rounds' answers together.

examples:
  mlxserve bench http://localhost:8100
  mlxserve bench http://localhost:8100 --workload chat,agent --streams 1,8 --json result.json
  mlxserve bench http://localhost:8100 --against http://localhost:8080
"""


def add_bench_flags(parser: argparse.ArgumentParser) -> None:
    """The address and the flags."""
    parser.add_argument("url", metavar="URL", type=text, help="any server with OpenAI's chat API")
    parser.add_argument(
        "--against", metavar="URL", type=text,
        help="another server, measured in turn with the first, round by round: prints both, and the ratios",
    )  # fmt: skip
    parser.add_argument(
        "--workload", metavar="NAME,…", type=listed(one_of(NAMES)), default=("chat",),
        help=f"what is asked: {', '.join(NAMES)} (default: chat)",
    )  # fmt: skip
    parser.add_argument(
        "--streams", metavar="N,…", type=listed(whole(1, 1024)), default=STREAMS,
        help=f"requests at a time, one measurement each (default: {','.join(map(str, STREAMS))})",
    )  # fmt: skip
    parser.add_argument(
        "--requests", metavar="N", type=whole(1), default=0,
        help="conversations a round (default: twice as many as streams, at least 4)",
    )  # fmt: skip
    parser.add_argument(
        "--tokens", metavar="N", type=whole(1), default=0,
        help="the most tokens of an answer (default: 64; long-prompt 8, agent 32, edit 160)",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", metavar="N", type=whole(1), default=ROUNDS, help=f"measurements of each (default: {ROUNDS})"
    )
    parser.add_argument("--model", metavar="NAME", type=text, help="the model's name (default: the one that is served)")
    parser.add_argument(
        "--against-model", metavar="NAME", type=text, help="the name of the model of --against, if it is another"
    )
    parser.add_argument(
        "--api-key", metavar="KEY", type=text, help="the key of the servers; also read from MLXSERVE_API_KEY"
    )
    parser.add_argument(
        "--temperature", metavar="T", type=number(0), default=0.0,
        help="the temperature of all requests (default: 0.0)",
    )  # fmt: skip
    parser.add_argument(
        "--seed", metavar="N", type=whole(0), default=None,
        help="what the prompts are made of: the same with the same number (default: new ones each time)",
    )  # fmt: skip
    parser.add_argument("--json", metavar="FILE", type=text, help="write everything as JSON; - for standard output")


def bench_request_from(args: argparse.Namespace, environment: Mapping[str, str]) -> BenchRequest:
    """What the flags ask for."""
    import random

    return BenchRequest(
        url=args.url,
        against=args.against or "",
        workloads=args.workload,
        streams=args.streams,
        requests=args.requests,
        tokens=args.tokens,
        rounds=args.rounds,
        model=args.model or "",
        against_model=args.against_model or args.model or "",
        api_key=args.api_key or first_key(environment),
        temperature=args.temperature,
        seed=random.randrange(100_000) if args.seed is None else args.seed,
        json=args.json or "",
    )


def listed(read: Callable[[str], Item]) -> Callable[[str], tuple[Item, ...]]:
    return lambda words: tuple(read(word.strip()) for word in words.split(","))


def one_of(names: tuple[str, ...]) -> Callable[[str], str]:
    def read(word: str) -> str:
        if word not in names:
            raise argparse.ArgumentTypeError(f"must be among {', '.join(names)}, not {word!r}")
        return word

    return read
