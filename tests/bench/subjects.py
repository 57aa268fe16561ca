"""Who is measured, and how each is started.

The peers run with the variables that mlxserve gives its own engine process, so that all compute with the same BLAS on
the same number of threads. `mlx_lm.server` otherwise keeps its defaults.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.client import HTTPException
from pathlib import Path

import msgspec

from mlxserve.config import Place
from mlxserve.engine.environment import engine_environment
from mlxserve.launch.ports import Ports

from .load import Load, LoadError, Speed
from .server import Command, Server, SubjectError

HERE = "127.0.0.1"
RANKS = 2


class Work(msgspec.Struct, frozen=True):
    """What is asked of each subject: the model in `folder`, so many streams at a time, so many tokens each.

    `common_prefix` is as in Load.
    """

    folder: Path
    streams: tuple[int, ...]
    tokens: int
    common_prefix: bool


Speeds = dict[int, Speed]
"""By number of streams."""
Subject = Callable[[Work], Speeds]
Starting = Callable[[Path, int], AbstractContextManager[list[Command]]]


def subjects() -> dict[str, Subject]:
    """By name, in the order in which they are measured."""
    return {
        "mlxserve": _served("mlxserve", _mlxserve_alone),
        "peer": _served("mlx_lm.server", _peer_alone),
        "mlxserve-2": _served("mlxserve launch -n 2", _mlxserve_launched),
        "peer-2-bare": _served("mlx_lm.server --pipeline, bare ranks", _peer_bare),
        "peer-2-launch": _served("mlx.launch -n 2 mlx_lm.server --pipeline", _peer_launched),
        "limit": _limit,
    }


def _served(name: str, starting: Starting) -> Subject:
    def measure(work: Work) -> Speeds:
        port = _free_port()
        with starting(work.folder, port) as commands, Server(name, commands, port) as server:
            load = Load(port, work.common_prefix)
            try:
                return {streams: load.measure(streams, work.tokens) for streams in work.streams}
            except (LoadError, OSError, HTTPException) as error:
                raise server.failure(f"{type(error).__name__}: {error}") from error

    return measure


@contextmanager
def _mlxserve_alone(folder: Path, port: int) -> Iterator[list[Command]]:
    yield [Command([*_mlxserve("serve"), *_flags(folder, port)], dict(os.environ))]


@contextmanager
def _mlxserve_launched(folder: Path, port: int) -> Iterator[list[Command]]:
    yield [Command([*_mlxserve("launch"), "-n", str(RANKS), *_flags(folder, port)], dict(os.environ))]


@contextmanager
def _peer_alone(folder: Path, port: int) -> Iterator[list[Command]]:
    yield [Command([_program("mlx_lm.server"), *_flags(folder, port)], engine_environment(os.environ, Place()))]


@contextmanager
def _peer_bare(folder: Path, port: int) -> Iterator[list[Command]]:
    """Both ranks started by hand, without a launcher."""
    with Ports(RANKS) as ports, tempfile.NamedTemporaryFile("w", suffix=".json") as hostfile:
        addresses = [f"{HERE}:{ports.first + rank}" for rank in range(RANKS)]
        json.dump([[address] for address in addresses], hostfile)
        hostfile.flush()
        command = [_program("mlx_lm.server"), "--pipeline", *_flags(folder, port)]
        ring = {"MLX_HOSTFILE": hostfile.name}
        yield [Command(command, _sharing() | ring | {"MLX_RANK": str(rank)}) for rank in range(RANKS)]


@contextmanager
def _peer_launched(folder: Path, port: int) -> Iterator[list[Command]]:
    """As users start it."""
    with Ports(RANKS) as ports:
        launch = [_program("mlx.launch"), "-n", str(RANKS), "--starting-port", str(ports.first), "--"]
        command = [*launch, _program("mlx_lm.server"), "--pipeline", *_flags(folder, port)]
        yield [Command(command, _sharing())]


def _limit(work: Work) -> Speeds:
    """The bare loop, in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.bare", str(work.folder), str(work.tokens), *map(str, work.streams)]
    done = subprocess.run(command, env=engine_environment(os.environ, Place()), capture_output=True, text=True)
    if done.returncode:
        raise SubjectError(f"the bare loop failed:\n{done.stderr}")
    return dict(zip(work.streams, map(Speed, json.loads(done.stdout)), strict=True))


def _mlxserve(command: str) -> list[str]:
    return [sys.executable, "-m", "mlxserve", command]


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _flags(folder: Path, port: int) -> list[str]:
    return ["--model", str(folder), "--port", str(port), "--temp", "0"]


def _sharing() -> dict[str, str]:
    """The variables of a rank that has another one beside it on this machine."""
    return engine_environment(os.environ, Place(0, RANKS, addresses=tuple(f"{HERE}:{rank}" for rank in range(RANKS))))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HERE, 0))
        return int(probe.getsockname()[1])
