"""The flags of `mlxserve models` and `mlxserve pull`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

import msgspec

from mlxserve.flags import MODEL, text
from mlxserve.keys import first_key

MODELS_EPILOG = """\
Of folders, those are listed that are named with --folder, and models right in them.

examples:
  mlxserve models
  mlxserve models --folder ~/models
  mlxserve models --hostfile hosts.json
  mlxserve models --url http://mini-1:8100
"""
PULL_EPILOG = """\
example:
  mlxserve pull mlx-community/Qwen3-1.7B-8bit
"""


class ModelsRequest(msgspec.Struct, frozen=True):
    """The flags of `mlxserve models`, read."""

    folders: tuple[str, ...] = ()
    """Where to look besides the caches."""
    hostfile: str = ""
    """Whose hosts are asked; empty: this machine."""
    program: str = ""
    url: str = ""
    """A server whose ranks are listed instead; empty: none."""
    api_key: str = ""
    json: bool = False


def add_models_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `mlxserve models`."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--hostfile", metavar="FILE", type=text, help="list what each of these hosts has")
    where.add_argument("--url", metavar="URL", type=text, help="list what each rank of this server has loaded")
    parser.add_argument(
        "--folder", metavar="FOLDER", type=text, action="append", default=[], help="a folder to look into, too"
    )
    parser.add_argument(
        "--program", metavar="PATH", type=text,
        help="the mlxserve to ask on every host, ~ being the home folder there (default: the path of this one)",
    )  # fmt: skip
    parser.add_argument("--api-key", metavar="KEY", type=text, help="the server's key; also read from MLXSERVE_API_KEY")
    parser.add_argument("--json", action="store_true", help="print one JSON document, for scripts")


def models_request_from(args: argparse.Namespace, environment: Mapping[str, str]) -> ModelsRequest:
    """What the flags ask for."""
    return ModelsRequest(
        tuple(args.folder),
        args.hostfile or "",
        args.program or "",
        args.url or "",
        args.api_key or first_key(environment),
        args.json,
    )


def add_pull_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `mlxserve pull`."""
    parser.add_argument("model", metavar="MODEL", type=text, help=MODEL.help)
