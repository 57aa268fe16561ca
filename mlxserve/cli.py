"""The command line: what the words mean and which function runs. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import os
from typing import NoReturn

import msgspec

from mlxserve.bench.flags import EPILOG as BENCH_EXAMPLE
from mlxserve.bench.flags import add_bench_flags
from mlxserve.chat.flags import EPILOG as CHAT_EXAMPLE
from mlxserve.chat.flags import add_chat_flags
from mlxserve.config import Place
from mlxserve.errors import UserError
from mlxserve.flags import BACKEND, FLAGS, add_flags, settings_at, settings_from, text, whole
from mlxserve.keys import keys_from
from mlxserve.launch.request import BACKENDS, DEFAULT_PORT, Http, LaunchRequest
from mlxserve.library.flags import MODELS_EPILOG, PULL_EPILOG, add_models_flags, add_pull_flags
from mlxserve.service.words import add_service_words
from mlxserve.top.flags import EPILOG as TOP_EXAMPLE
from mlxserve.top.flags import add_top_flags

SERVE_EXAMPLE = """\
example:
  mlxserve serve --model demo
"""
LAUNCH_EXAMPLE = """\
examples:
  mlxserve launch --hostfile hosts.json --model mlx-community/Qwen3-1.7B-8bit
  mlxserve launch --hostfile hosts.json --deploy --program ~/mlxserve --model demo
  mlxserve launch -n 2 --model demo
  mlxserve launch --detach --hostfile hosts.json --model demo
  mlxserve launch --stop --hostfile hosts.json
"""
CHECK_EXAMPLE = """\
examples:
  mlxserve check --hostfile hosts.json --deploy
  mlxserve check --hostfile hosts.json --json | jq .ok
  mlxserve check -n 2
"""
HOSTS_EXAMPLE = """\
examples:
  mlxserve hosts mini-1 mini-2 --output hosts.json
  mlxserve hosts mini-1 mini-2 mini-3 --backend jaccl > hosts.json
"""

SERVICE_EXAMPLE = """\
examples:
  mlxserve service install launch --hostfile hosts.json --model mlx-community/Qwen3-1.7B-8bit
  mlxserve service status
  mlxserve service remove
"""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are UserErrors, so that all errors look alike."""

    def error(self, message: str) -> NoReturn:
        """Raise UserError."""
        raise UserError(f"{message} (see `{self.prog} --help`)")


def main(argv: list[str]) -> int:
    """Run the command line; returns the exit code. Raises MlxserveError."""
    if argv[:1] == ["engine"]:
        from mlxserve.engine import blas

        blas.load_own()
        from mlxserve.engine import process

        return process.main(argv[1:])
    if argv[:1] == ["probe"]:
        from mlxserve.launch.check import probe

        probe.main()
    if argv[:1] == ["detached"]:
        from mlxserve.launch.detach import far

        return far.main()
    if argv[:1] == ["check"] and "--json" in argv:
        from mlxserve.launch.check import report

        with report.of_errors():
            return _run(argv)
    return _run(["version"] if argv == ["--version"] else argv)


def _run(argv: list[str]) -> int:
    args = parser().parse_args(argv)
    match args.command:
        case "serve":
            return serve(args)
        case "launch":
            return launch(args, argv[1:])
        case "check":
            return check(args, argv[1:])
        case "hosts":
            return hosts(args)
        case "service":
            return service(args)
        case "bench":
            return bench(args)
        case "chat":
            return chat(args)
        case "top":
            return top(args)
        case "models":
            return models(args)
        case "pull":
            return pull(args)
        case _:
            return version()


def serve(args: argparse.Namespace) -> int:
    """Serve: alone, or as the rank that a launcher made this process."""
    settings = settings_from(args, os.environ)
    from mlxserve import node

    return node.run(settings)


def launch(args: argparse.Namespace, argv: list[str]) -> int:
    """Start a serving rank on each host."""
    request = launch_request_from(args, argv)

    def validate(ranks: int) -> None:
        settings_at(args, Place(world_size=ranks))

    if request.detached:
        from mlxserve.launch.detach import command

        return {"detach": command.detach, "keep": command.keep, "stop": command.stop}[request.detached](
            request, validate
        )
    from mlxserve.launch.launcher import run

    return run(request, "serve", validate)


def check(args: argparse.Namespace, argv: list[str]) -> int:
    """Check: all ranks of a hosts file or of this machine, or as the rank that a launcher made this process."""
    request = request_from(args, argv)
    if args.json and not (request.hostfile or request.ranks):
        request = msgspec.structs.replace(request, ranks=1)
    if request.hostfile or request.ranks:
        from mlxserve.launch.check.run import run

        return run(request, lambda ranks: settings_at(args, Place(world_size=ranks)), args.json)
    settings = settings_from(args, os.environ)
    from mlxserve import node

    return node.run(settings)


def hosts(args: argparse.Namespace) -> int:
    """Write a hosts file."""
    from mlxserve.launch import hosts_command

    names = tuple(args.names)
    return hosts_command.run(hosts_command.HostsRequest(names, args.backend, args.output or "", args.force))


def service(args: argparse.Namespace) -> int:
    """Install, remove or show a service of this machine."""
    from mlxserve.service import command
    from mlxserve.service.job import job_for

    match args.action:
        case "install":
            words, drain_seconds = service_words(args.words)
            job = job_for(args.name, words, drain_seconds=drain_seconds)
            return command.show(job) if args.print else command.install(job)
        case "remove":
            return command.remove(args.name)
        case _:
            return command.status(args.name)


def bench(args: argparse.Namespace) -> int:
    """Measure one or two servers."""
    from mlxserve.bench import command, flags

    return command.run(flags.bench_request_from(args, os.environ))


def chat(args: argparse.Namespace) -> int:
    """Converse with a server."""
    from mlxserve.chat import command, flags

    return command.run(flags.chat_request_from(args, os.environ))


def top(args: argparse.Namespace) -> int:
    """Show a cluster."""
    from mlxserve.top import command, flags

    return command.run(flags.top_request_from(args, os.environ))


def models(args: argparse.Namespace) -> int:
    """List models."""
    from mlxserve.library import command, flags

    return command.run(flags.models_request_from(args, os.environ))


def pull(args: argparse.Namespace) -> int:
    """Download a model."""
    from mlxserve.library import pull

    return pull.run(args.model)


def service_words(words: list[str]) -> tuple[list[str], float]:
    """The words of a `launch` or `serve`, looked at as that would, but not run; and its `--drain-seconds`.

    Raises UserError.
    """
    words = words[1:] if words[:1] == ["--"] else words
    if words[:1] not in (["launch"], ["serve"]):
        raise UserError(
            "say what the service runs: `mlxserve service install launch --hostfile hosts.json --model MODEL`, "
            "or `… install serve --model MODEL` for this machine alone"
        )
    args = parser().parse_args(words)
    if args.api_keys:
        raise UserError(
            "everybody on this machine can read the file of a service: "
            "put keys into a file of your own, and name that with --api-key-file"
        )
    ranks = 1
    if args.command == "launch":
        from mlxserve.launch import hostfile

        request = launch_request_from(args, words[1:])
        if request.detached in ("detach", "stop"):
            raise UserError("a service keeps its command running itself: leave --detach and --stop out")
        named = request.hostfile and hostfile.read(request.hostfile, request.backend)
        if named and named.backend != "mpi" and not request.detached:
            words = [*words, "--keep"]  # a lost ssh session is not to end the server
        ranks = len((named or hostfile.ranks_here(request.ranks, request.backend)).hosts)
    settings_at(args, Place(world_size=ranks))
    return words, args.drain_seconds


def version() -> int:
    """Print which build this is, and the versions that must be equal on all machines."""
    from mlxserve.versions import lines

    print(*lines(), sep="\n")
    return 0


def launch_request_from(args: argparse.Namespace, argv: list[str]) -> LaunchRequest:
    """What `launch` is to launch. Raises UserError where no hosts are named."""
    request = request_from(args, argv)
    if not (request.hostfile or request.ranks):
        raise UserError("name the hosts with --hostfile hosts.json, or a number of ranks on this machine with -n 2")
    return request


def request_from(args: argparse.Namespace, argv: list[str]) -> LaunchRequest:
    """What to launch: launch's own flags and the keys as values, the others as they were written."""
    own = Parser(add_help=False, allow_abbrev=False)
    add_json_flag(own)
    add_launch_flags(own)
    add_detach_flags(own)
    own.add_argument("--api-key")
    return LaunchRequest(
        hostfile=args.hostfile or "",
        ranks=args.ranks,
        backend=args.backend if args.backend != "any" else "",
        starting_port=args.starting_port,
        connections_per_ip=args.connections_per_ip,
        has_fallback=args.fallback == "ring",
        program=args.program or "",
        api_keys=(*args.api_keys, *keys_from(os.environ)),
        drain_seconds=args.drain_seconds if args.command == "launch" else 0.0,
        min_ranks=args.min_ranks if args.command == "launch" else 0,
        public_addresses=args.public_addresses,
        deploy=args.deploy,
        detached=args.detached if args.command == "launch" else "",
        http=Http(args.host, args.port, bool(args.ssl_certfile)),
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
    whole_line.add_argument("--version", action="store_true", help="the same as the command version")
    commands = whole_line.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_flags(_command(commands, "serve", "serve on this machine, alone or as a rank of a launcher", SERVE_EXAMPLE))
    launching = _command(commands, "launch", "start a serving rank on every host", LAUNCH_EXAMPLE)
    add_launch_flags(launching)
    add_detach_flags(launching)
    add_flags(launching, tuple(flag for flag in FLAGS if flag is not BACKEND))
    checking = _command(commands, "check", "look at each host, then form the group and test it", CHECK_EXAMPLE)
    add_launch_flags(checking)
    add_json_flag(checking)
    add_flags(checking, tuple(flag for flag in FLAGS if flag is not BACKEND), model="")
    add_hosts_flags(_command(commands, "hosts", "write a hosts file, from names that ssh knows", HOSTS_EXAMPLE))
    add_service_words(
        _command(commands, "service", "keep a launch or serve command running, as a service", SERVICE_EXAMPLE)
    )
    add_bench_flags(_command(commands, "bench", "measure how fast a server answers, or which of two", BENCH_EXAMPLE))
    add_chat_flags(_command(commands, "chat", "converse with a server, in the terminal", CHAT_EXAMPLE))
    add_top_flags(_command(commands, "top", "show a cluster in the terminal: ranks, memory, traffic", TOP_EXAMPLE))
    add_models_flags(
        _command(commands, "models", "list models: which are here, and which rank has what", MODELS_EPILOG)
    )
    add_pull_flags(_command(commands, "pull", "download a model, all of it, to this machine", PULL_EPILOG))
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
        help="the mlxserve to run on every host, ~ being the home folder there (default: the path of this one)",
    )  # fmt: skip
    group.add_argument(
        "--public-addresses", action="store_true",
        help="let ranks listen at addresses that the internet reaches, where whoever connects is let in",
    )  # fmt: skip
    group.add_argument(
        "--deploy", action="store_true",
        help="first copy this program to the hosts where that path holds another build or nothing",
    )  # fmt: skip


def add_detach_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `launch` for ranks that go on without it."""
    group = parser.add_mutually_exclusive_group()
    for word, purpose in (
        ("detach", "let the ranks go on by themselves, and end when they serve"),
        ("keep", "let them go on by themselves, and stay: start each again when it ends or its host comes back"),
        ("stop", "end the ranks that --detach has started, and wait for that"),
    ):
        group.add_argument(f"--{word}", dest="detached", action="store_const", const=word, default="", help=purpose)


def add_json_flag(parser: argparse.ArgumentParser) -> None:
    """The flag of `check` for scripts."""
    parser.add_argument("--json", action="store_true", help="print one JSON document with all findings, for scripts")


def add_hosts_flags(parser: argparse.ArgumentParser) -> None:
    """The flags of `hosts`."""
    parser.add_argument("names", metavar="NAME", nargs="+", type=text, help="a host, by its name for ssh; rank 0 first")
    parser.add_argument("--output", metavar="FILE", type=text, help="where to write it (default: standard output)")
    parser.add_argument("--force", action="store_true", help="overwrite FILE where it exists")
    parser.add_argument(
        "--backend", metavar="BACKEND", choices=BACKENDS[:3], default="ring",
        help=f"how the ranks are to reach each other: {', '.join(BACKENDS[:3])} (default: ring)",
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
