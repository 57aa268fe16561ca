"""A cable between two hosts is out for a while: what was asked from a third is answered as if nothing had been."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import openai.types
import pytest

from tests.system.hosts import REPOSITORY, Bed, install, two_minis
from tests.system.interrupted import BACK_SECONDS, BEGUN, QUESTIONS, are_right
from tests.system.question import Answer

MINIS = ("mini-1", "mini-2")
OUT_SECONDS = 20.0
START_SECONDS = 90.0
END_SECONDS = 15.0


@pytest.fixture(scope="module")
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """Two hosts with mlxserve in their homes, and a third that asks."""
    with two_minis(tmp_path_factory.mktemp("minis"), python=(*MINIS, "client")) as bed:
        for name in MINIS:
            install(bed[name])
        bed.write_hostfile("mini-1", *MINIS)
        yield bed


@pytest.fixture(scope="module")
def keeping(bed: Bed) -> Iterator[subprocess.Popen[bytes]]:
    """`launch --keep` on the first host, serving over both."""
    command = ["./mlxserve", "launch", "--keep", "--hostfile", "hosts.json", "--host", "0.0.0.0", "--model", "demo"]
    log = bed["mini-1"].home / "log"
    with log.open("wb") as output:
        keeping = bed["mini-1"].popen(command, stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + START_SECONDS
    while "serving at" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)
    yield keeping
    keeping.kill()


class Asking:
    """A client on the third host that asks all questions at once."""

    def __init__(self, bed: Bed) -> None:
        url = f"http://{bed['mini-1'].addresses['client']}:8100"
        command = [sys.executable, "-m", "tests.system.asking", url, str(BEGUN)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = bed["client"].popen(command, cwd=str(REPOSITORY), **pipes)
        self._process.stdin.write(json.dumps([vars(question) for question in QUESTIONS]))
        self._process.stdin.close()

    def wait_until_begun(self) -> None:
        assert self._process.stdout.readline() == "begun\n"

    def answers(self) -> tuple[list[Answer], float]:
        """What came back, and the longest time in which nothing came."""
        result = json.loads(self._process.stdout.read())
        answers = [
            Answer(text, pieces, openai.types.CompletionUsage.model_validate(usage))
            for text, pieces, usage in result["answers"]
        ]
        return answers, result["standstill"]


def test_answers_go_on_after_a_cable_was_out(
    bed: Bed, keeping: subprocess.Popen[bytes], expected: list[Answer]
) -> None:
    asking = Asking(bed)
    asking.wait_until_begun()
    bed.cut(*MINIS)
    mending = threading.Timer(OUT_SECONDS, bed.mend, MINIS)
    mending.start()
    answers, standstill = asking.answers()
    log = (bed["mini-1"].home / "log").read_text()
    are_right(expected, answers)
    print(f"answers went on {standstill - OUT_SECONDS:.1f} s after the cable was in again")
    assert OUT_SECONDS - 1 < standstill < OUT_SECONDS + BACK_SECONDS, log
    assert keeping.poll() is None, log


def test_after_that_everything_ends_as_always(bed: Bed, keeping: subprocess.Popen[bytes]) -> None:
    keeping.send_signal(signal.SIGTERM)
    assert keeping.wait(END_SECONDS) == 0, (bed["mini-1"].home / "log").read_text()
    for name in MINIS:
        bed[name].wait_until_idle(0.5)
