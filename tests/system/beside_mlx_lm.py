"""`python -m tests.system.beside_mlx_lm`: mlx_lm.server and mlxserve over two ranks, one of which is killed.

Prints what becomes of the answer that is being streamed, and whether the server answers again half a minute later.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import httpx

from tests.bench.model import random_folder
from tests.bench.setup import NO_GUESSES
from tests.bench.subjects import STARTING, Start
from tests.ports import free_port
from tests.system.server import BareRank, Server, write_hostfile

TOKENS = 200
BEGUN = 20
"""Pieces after which a rank is killed."""
LATER = 30.0
START_SECONDS = 120.0


class Subject(NamedTuple):
    """A server over two ranks: the processes of each, and that of rank 1 which computes."""

    ranks: list[Server]
    computes: Callable[[], int]

    @property
    def url(self) -> str:
        return self.ranks[0].url


@contextlib.contextmanager
def mlx_lm_server(folder: Path) -> Iterator[Subject]:
    port = free_port()
    with STARTING["peer-2-bare"](Start(folder, threads=1), port) as commands, contextlib.ExitStack() as stack:
        ranks = [Server(command.arguments, port, command.environment) for command in commands]
        for rank in ranks:
            stack.callback(rank.close)
        yield Subject(ranks, lambda: ranks[1].process.pid)


@contextlib.contextmanager
def mlxserve(folder: Path) -> Iterator[Subject]:
    port = free_port()
    with tempfile.TemporaryDirectory() as here, contextlib.ExitStack() as stack:
        hostfile = write_hostfile(Path(here), 2)
        ranks = [BareRank(rank, hostfile, port, *NO_GUESSES, model=str(folder)) for rank in range(2)]
        for rank in ranks:
            stack.callback(rank.close)
        yield Subject([*ranks], lambda: ranks[1].pids_of("engine")[0])


def wait_until_up(subject: Subject) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{subject.url}/health", timeout=5).is_success:
                return
        if time.monotonic() > deadline or any(rank.process.poll() is not None for rank in subject.ranks):
            sys.exit(f"it does not start:\n{subject.ranks[0].output}\n{subject.ranks[1].output}")
        time.sleep(0.1)


def pieces(subject: Subject, tokens: int) -> Iterator[str]:
    """The pieces of one streamed answer. Raises httpx.HTTPError where it breaks."""
    question = {"messages": [{"role": "user", "content": "Tell me about the sea."}], "temperature": 0}
    body = question | {"max_tokens": tokens, "stream": True}
    with httpx.stream("POST", f"{subject.url}/v1/chat/completions", json=body, timeout=LATER) as response:
        response.raise_for_status()
        ended = False
        for line in response.iter_lines():
            ended = ended or line == "data: [DONE]"
            if line.startswith("data: {"):
                choices = json.loads(line.removeprefix("data: ")).get("choices") or [{}]
                if text := choices[0].get("delta", {}).get("content"):
                    yield text
        if not ended:
            raise httpx.RemoteProtocolError("the stream ended without [DONE]")


def said(error: httpx.HTTPError) -> str:
    """What went wrong, on one line."""
    return f"{type(error).__name__}: {str(error).splitlines()[0]}"


def show(name: str, subject: Subject) -> None:
    """Kill rank 1 in the middle of an answer, and print what comes of it."""
    wait_until_up(subject)
    whole = "".join(pieces(subject, TOKENS))
    got, times, fate = list[str](), list[float](), "whole, but not as before the kill"
    try:
        for piece in pieces(subject, TOKENS):
            got.append(piece)
            times.append(time.monotonic())
            if len(got) == BEGUN:
                os.kill(subject.computes(), signal.SIGKILL)
        if "".join(got) == whole:
            fate = "whole, and as without the kill"
    except httpx.HTTPError as error:
        fate = f"broken: {said(error)}"
    pause = max(later - earlier for earlier, later in itertools.pairwise(times))
    print(f"{name}: the answer, {len(''.join(got))} of {len(whole)} characters, is {fate}; longest pause {pause:.1f} s")
    time.sleep(max(0.0, times[BEGUN - 1] + LATER - time.monotonic()))
    alive = [rank for rank, server in enumerate(subject.ranks) if server.process.poll() is None]
    try:
        answered = "answers" if "".join(pieces(subject, 8)) else "answers nothing"
    except httpx.HTTPError as error:
        answered = f"does not answer: {said(error)}"
    print(f"{name}: {LATER:g} s after the kill ranks {alive} run, and a new request: the server {answered}", flush=True)


def main() -> None:
    """Both, one after the other."""
    folder = random_folder()
    for name, start in (("mlx_lm.server", mlx_lm_server), ("mlxserve", mlxserve)):
        with start(folder) as subject:
            show(name, subject)


if __name__ == "__main__":
    main()
