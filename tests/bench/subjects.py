"""Who is measured, and how each is started.

All have OpenBLAS and the same number of BLAS threads a rank: one, unless told otherwise, since a rank stands for a
machine of its own. `mlx_lm.server` otherwise keeps its defaults, which allow the same numbers of prompts and answers at
a time as mlxserve's. The bare loops compute as mlxserve's engine processes do: with their variables and kernels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from mlxserve.config import Place
from mlxserve.engine import blas
from mlxserve.engine.environment import engine_environment
from mlxserve.launch.ports import Ports
from tests.ports import free_port

from .server import Command, Server, SubjectError

HERE = "127.0.0.1"
RANKS = 2


class Start(msgspec.Struct, frozen=True):
    """What a subject is started with: the model's folder, BLAS threads a rank, and flags of mlxserve's."""

    folder: Path
    threads: int
    flags: tuple[str, ...] = ()


Starting = Callable[[Start, int], AbstractContextManager[list[Command]]]


@contextmanager
def serving(name: str, start: Start) -> Iterator[tuple[str, Server]]:
    """The subject `name` while it serves: its address, and its processes. Raises SubjectError."""
    port = free_port()
    with STARTING[name](start, port) as commands, Server(LABELS[name], commands, port) as server:
        yield f"http://{HERE}:{port}", server


def bare_speeds(start: Start, streams: tuple[int, ...], tokens: int, answer: int) -> list[tuple[float, float]]:
    """The bare loop's tokens per second by batch: after the first, and of an `answer` with its prompt.

    Raises SubjectError.
    """
    found = _bare(start, "speeds", *map(str, (tokens, answer, *streams)))
    return [(decode, whole) for decode, whole in found]


def bare_reading(start: Start, pairs: list[tuple[int, int]]) -> list[float]:
    """Seconds in which the bare loop reads the first of each two numbers of tokens after the second one's."""
    return _bare(start, "reading", *(f"{new},{before}" for new, before in pairs))


def bare_pair_speeds(start: Start, streams: tuple[int, ...], tokens: int) -> list[float]:
    """Tokens per second after the first, by batch, of a bare loop over two processes. Raises SubjectError."""
    return _bare(start, "1", "speeds", *map(str, (tokens, *streams)), program="bare_pipeline")


def bare_pair_reading(start: Start, tokens: int, chunks: tuple[int, ...], lots: int = 1) -> list[float]:
    """Seconds in which that reads a prompt, by the number of chunks; each process has so many lots of layers.

    Raises SubjectError.
    """
    return _bare(start, str(lots), "reading", *map(str, (tokens, *chunks)), program="bare_pipeline")


def _bare(start: Start, *arguments: str, program: str = "bare") -> list[Any]:
    """What the bare loop found, in a process of its own. Raises SubjectError."""
    command = [sys.executable, "-m", f"tests.bench.{program}", str(start.folder), *arguments]
    done = subprocess.run(command, env=engine_environment(_threads(start), Place()), capture_output=True, text=True)
    if done.returncode:
        raise SubjectError(f"the bare loop failed:\n{done.stderr}")
    return list(json.loads(done.stdout))


@contextmanager
def _mlxserve_alone(start: Start, port: int) -> Iterator[list[Command]]:
    yield [Command([*_mlxserve("serve"), *_flags(start, port), *start.flags], _threads(start))]


@contextmanager
def _mlxserve_launched(start: Start, port: int) -> Iterator[list[Command]]:
    yield [Command([*_mlxserve("launch"), "-n", str(RANKS), *_flags(start, port), *start.flags], _threads(start))]


@contextmanager
def _peer_alone(start: Start, port: int) -> Iterator[list[Command]]:
    yield [Command([_program("mlx_lm.server"), *_flags(start, port)], _peers(start))]


@contextmanager
def _peer_bare(start: Start, port: int) -> Iterator[list[Command]]:
    """Both ranks started by hand, without a launcher."""
    with Ports(RANKS) as ports, tempfile.NamedTemporaryFile("w", suffix=".json") as hostfile:
        addresses = [f"{HERE}:{ports.first + rank}" for rank in range(RANKS)]
        json.dump([[address] for address in addresses], hostfile)
        hostfile.flush()
        command = [_program("mlx_lm.server"), "--pipeline", *_flags(start, port)]
        ring = {"MLX_HOSTFILE": hostfile.name}
        yield [Command(command, _peers(start) | ring | {"MLX_RANK": str(rank)}) for rank in range(RANKS)]


@contextmanager
def _peer_launched(start: Start, port: int) -> Iterator[list[Command]]:
    """As users start it."""
    with Ports(RANKS) as ports:
        launch = [_program("mlx.launch"), "-n", str(RANKS), "--starting-port", str(ports.first), "--"]
        yield [Command([*launch, _program("mlx_lm.server"), "--pipeline", *_flags(start, port)], _peers(start))]


STARTING: dict[str, Starting] = {
    "mlxserve": _mlxserve_alone,
    "mlxserve-guessing": _mlxserve_alone,
    "peer": _peer_alone,
    "mlxserve-2": _mlxserve_launched,
    "mlxserve-2-guessing": _mlxserve_launched,
    "peer-2-bare": _peer_bare,
    "peer-2-launch": _peer_launched,
}
LABELS = {
    "mlxserve": "mlxserve, 1 rank, --speculation off",
    "mlxserve-guessing": "mlxserve, 1 rank",
    "peer": "mlx_lm.server, 1 rank",
    "mlxserve-2": "mlxserve launch -n 2, --speculation off",
    "mlxserve-2-guessing": "mlxserve launch -n 2",
    "peer-2-bare": "mlx_lm.server --pipeline, 2 bare ranks",
    "peer-2-launch": "mlx.launch -n 2 mlx_lm.server --pipeline",
    "bare": "bare loop, 1 rank",
    "bare-2": "bare loop, 2 processes",
}


def _mlxserve(command: str) -> list[str]:
    return [sys.executable, "-m", "mlxserve", command]


def _program(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _flags(start: Start, port: int) -> list[str]:
    return ["--model", str(start.folder), "--port", str(port), "--temp", "0"]


def _threads(start: Start) -> dict[str, str]:
    return dict(os.environ) | {"OPENBLAS_NUM_THREADS": str(start.threads)}


def _peers(start: Start) -> dict[str, str]:
    variables = _threads(start)
    blas.preload(variables)
    return variables
