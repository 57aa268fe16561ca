"""The command line: what the words mean and which function runs. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import os
import sys
from typing import NoReturn

from mlxserve import __version__
from mlxserve.config import Place
from mlxserve.errors import UserError
from mlxserve.flags import BACKEND, FLAGS, add_flags, settings_at, settings_from, text, whole
from mlxserve.launch.request import BACKENDS, DEFAULT_PORT, LaunchRequest

SERVE_EXAMPLE = """\
example:
  mlxserve serve --model demo
"""
LAUNCH_EXAMPLE = """\
examples:
  mlxserve launch --hostfile hosts.json --model mlx-community/Qwen3-1.7B-8bit
  mlxserve launch -n 2 --model demo
"""
CHECK_EXAMPLE = """\
examples:
  mlxserve check --hostfile hosts.json
  mlxserve check -n 2
"""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are UserErrors, so that all errors look alike."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(f"{message} (see `{self.prog} --help`)")


def main(argv: list[str]) -> int:
    """Run the command line; returns the exit code. Raises MlxserveError."""
    if argv[:1] == ["engine"]:
        from mlxserve.engine import process

        return process.main(argv[1:])
    args = parser().parse_args(argv)
    match args.command:
        case "serve":
            return serve(args)
        case "launch":
            return launch(args, argv[1:])
        case "check":
            return check(args, argv[1:])
        case _:
            return version()


def serve(args: argparse.Namespace) -> int:
    """Serve: alone, or as the rank that a launcher made this process."""
    settings = settings_from(args, os.environ)
    from mlxserve import node

    return node.run(settings)


def launch(args: argparse.Namespace, argv: list[str]) -> int:
    """Start a serving rank on each host."""
    request = request_from(args, argv)
    if not (request.hostfile or request.ranks):
        raise UserError("name the hosts with --hostfile hosts.json, or a number of ranks on this machine with -n 2")
    from mlxserve.launch.launcher import run

    return run(request, "serve", lambda ranks: settings_at(args, Place(world_size=ranks)))


def check(args: argparse.Namespace, argv: list[str]) -> int:
    """Check: all ranks of a hosts file or of this machine, or as the rank that a launcher made this process."""
    request = request_from(args, argv)
    if request.hostfile or request.ranks:
        from mlxserve.launch.launcher import run

        return run(request, "check", lambda ranks: settings_at(args, Place(world_size=ranks)))
    settings = settings_from(args, os.environ)
    from mlxserve import node

    return node.run(settings)


def version() -> int:
    """Print the versions that must be equal on all machines."""
    from importlib.metadata import version as installed

    print(f"mlxserve {__version__} (mlx {installed('mlx')}, mlx-lm {installed('mlx-lm')})")
    print(f"Python {sys.version.split()[0]} at {sys.executable}")
    return 0


def request_from(args: argparse.Namespace, argv: list[str]) -> LaunchRequest:
    """What to launch: launch's own flags as values, the others as they were written."""
    own = Parser(add_help=False, allow_abbrev=False)
    add_launch_flags(own)
    return LaunchRequest(
        hostfile=args.hostfile or "",
        ranks=args.ranks,
        backend=args.backend if args.backend != "any" else "",
        starting_port=args.starting_port,
        connections_per_ip=args.connections_per_ip,
        program=args.program or "",
        flags=tuple(own.parse_known_args(argv)[1]),
    )


def parser() -> Parser:
    """The parser of the whole command line."""
    whole_line = Parser(
        prog="mlxserve",
        description="Serve one MLX language model, split by layers over several Macs, to any OpenAI client.",
        epilog="Each command has its own --help.",
        allow_abbrev=False,
    )
    whole_line.add_argument("--version", action="version", version=f"mlxserve {__version__}")
    commands = whole_line.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_flags(_command(commands, "serve", "serve on this machine, alone or as a rank of a launcher", SERVE_EXAMPLE))
    launching = _command(commands, "launch", "start a serving rank on every host", LAUNCH_EXAMPLE)
    add_launch_flags(launching)
    add_flags(launching, tuple(flag for flag in FLAGS if flag is not BACKEND))
    checking = _command(commands, "check", "form the group and show what each rank can do", CHECK_EXAMPLE)
    add_launch_flags(checking)
    add_flags(checking, tuple(flag for flag in FLAGS if flag is not BACKEND), model="")
    _command(commands, "version", "print the versions, which must be equal on all machines", "")
    return whole_line


def add_launch_flags(parser: argparse.ArgumentParser) -> None:
    """The flags that say where the ranks are; named as in `mlx.launch`."""
    group = parser.add_argument_group("launching")
    where = group.add_mutually_exclusive_group()
    where.add_argument("--hostfile", metavar="FILE", type=text, help="the hosts, in MLX's hostfile format")
    where.add_argument("-n", dest="ranks", metavar="N", type=whole(1, 64), default=0, help="N ranks on this machine")
    group.add_argument(
        "--backend", metavar="BACKEND", choices=("any", *BACKENDS), default="any",
        help=f"how the ranks reach each other; any: as the hosts file says, else ring: any, {', '.join(BACKENDS)}",
    )  # fmt: skip
    group.add_argument(
        "--starting-port", metavar="PORT", type=whole(1, 65535), default=0,
        help="the first of the ports between ranks, one more for each rank and address "
        f"(default: {DEFAULT_PORT}; with -n the first free ones from there on)",
    )  # fmt: skip
    group.add_argument(
        "--connections-per-ip", metavar="N", type=whole(1, 16), default=1,
        help="ring connections per address (default: 1)",
    )  # fmt: skip
    group.add_argument(
        "--program", metavar="PATH", type=text,
        help="the mlxserve to run on every host (default: the path of this one)",
    )  # fmt: skip


def _command(
    commands: argparse._SubParsersAction[Parser], name: str, purpose: str, example: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=purpose,
        description=purpose[0].upper() + purpose[1:] + ".",
        epilog=example,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
