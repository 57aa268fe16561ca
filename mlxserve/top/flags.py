"""The flags of `mlxserve top`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import msgspec

from mlxserve.flags import number, text
from mlxserve.keys import first_key

URL = "http://localhost:8100"
SECONDS = 1.0

EPILOG = """\
Ctrl-C ends. Where the output is no terminal, or with --once, it is shown once.

examples:
  mlxserve top
  mlxserve top http://mini-1:8100 --once
"""


class TopRequest(msgspec.Struct, frozen=True):
    """The flags of `mlxserve top`, read."""

    url: str
    api_key: str = ""
    seconds: float = SECONDS
    once: bool = False


def add_top_flags(parser: argparse.ArgumentParser) -> None:
    """The address and the flags."""
    parser.add_argument(
        "url", metavar="URL", nargs="?", type=text, default=URL, help=f"a server of mlxserve (default: {URL})"
    )
    parser.add_argument(
        "--interval", metavar="SECONDS", type=number(0.2, 3600), default=SECONDS,
        help=f"how often it is asked (default: {SECONDS})",
    )  # fmt: skip
    parser.add_argument("--once", action="store_true", help="show it once and end")
    parser.add_argument("--api-key", metavar="KEY", type=text, help="the server's key; also read from MLXSERVE_API_KEY")


def top_request_from(args: argparse.Namespace, environment: Mapping[str, str]) -> TopRequest:
    """What the flags ask for."""
    return TopRequest(args.url, args.api_key or first_key(environment), args.interval, args.once)
