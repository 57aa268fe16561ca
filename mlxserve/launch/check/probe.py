"""`mlxserve probe`: what the check runs on a host. Answers two lines, and ends when its standard input does."""

from __future__ import annotations

import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import msgspec

from mlxserve.launch.check.facts import facts
from mlxserve.launch.check.listeners import Listeners, reach
from mlxserve.launch.check.messages import Answer, Connect, Facts, Question, Reached

_LONGEST_LIFE = 120
"""Seconds after which a probe ends whatever it waits for."""


def main() -> NoReturn:
    """Answer the check on the other side of standard input and output."""
    signal.alarm(_LONGEST_LIFE)
    question = msgspec.json.decode(_line(), type=Question)
    _answer(look(question))
    where, clock = msgspec.json.decode(_line(), type=Connect), time.time()
    with ThreadPoolExecutor(max(1, len(where.addresses))) as pool:
        peers = tuple(pool.map(lambda address: reach(question.token, address), where.addresses))
    _answer(Reached(clock, peers))
    _line()  # the listeners stay open until the other hosts have connected too
    os._exit(0)


def look(question: Question) -> Facts:
    """The facts, with a listener at each port that is asked for."""
    listeners = Listeners(question.token)
    return msgspec.structs.replace(
        facts(question),
        listening=tuple(listeners.open(address) for address in question.listen),
        control=listeners.open(f"{question.control}:0") if question.control else None,
        serve=listeners.open(question.serve) if question.serve else None,
    )


def _answer(answer: Answer) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
    sys.stdout.buffer.flush()


def _line() -> bytes:
    """The check's next line; ends the process where there is none, since the check is gone."""
    line = sys.stdin.buffer.readline()
    if not line:
        os._exit(0)
    return line
