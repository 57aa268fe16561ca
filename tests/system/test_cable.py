"""A cable between hosts is out for a while: what was asked from another is answered as if nothing had been."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import openai.types
import pytest

from tests.system.hosts import REPOSITORY, Bed, install, three_minis, two_minis
from tests.system.interrupted import BACK_SECONDS, BEGUN, QUESTIONS, are_right
from tests.system.question import Answer

MINIS = ("mini-1", "mini-2", "mini-3")
OUT_SECONDS = 20.0
START_SECONDS = 90.0
END_SECONDS = 15.0


@dataclass(frozen=True)
class Minis:
    """Hosts that serve together, and a client that asks."""

    bed: Bed
    names: tuple[str, ...]
    cable: tuple[str, str]
    """The hosts at its ends: without it mini-2 reaches no other."""

    @property
    def log(self) -> str:
        return (self.bed["mini-1"].home / "log").read_text()


@pytest.fixture(scope="module", params=[2, 3], ids=["two ranks", "three ranks"])
def minis(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Minis]:
    """Two hosts with mlxserve in their homes, joined by a cable; then three, on a switch."""
    names = MINIS[: request.param]
    folder = tmp_path_factory.mktemp("minis")
    with two_minis(folder, python=(*names, "client")) if len(names) == 2 else three_minis(folder) as bed:
        for name in names:
            install(bed[name])
        bed.write_hostfile("mini-1", *names)
        yield Minis(bed, names, ("mini-2", "mini-1" if len(names) == 2 else "client"))


@pytest.fixture(scope="module")
def keeping(minis: Minis, pytestconfig: pytest.Config) -> Iterator[subprocess.Popen[bytes]]:
    """`launch --keep` on the first host, serving over all."""
    command = ["./mlxserve", "launch", "--keep", "--hostfile", "hosts.json", "--host", "0.0.0.0", "--model", "demo"]
    command += ["--parallel", pytestconfig.getoption("parallel")]
    with (minis.bed["mini-1"].home / "log").open("wb") as output:
        keeping = minis.bed["mini-1"].popen(command, stdout=output, stderr=subprocess.STDOUT)
    deadline = time.monotonic() + START_SECONDS
    while "serving at" not in minis.log:
        assert time.monotonic() < deadline, minis.log
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
    minis: Minis, keeping: subprocess.Popen[bytes], expected: list[Answer]
) -> None:
    asking = Asking(minis.bed)
    asking.wait_until_begun()
    minis.bed.cut(*minis.cable)
    mending = threading.Timer(OUT_SECONDS, minis.bed.mend, minis.cable)
    mending.start()
    answers, standstill = asking.answers()
    are_right(expected, answers)
    print(f"answers went on {standstill - OUT_SECONDS:.1f} s after the cable was in again")
    assert OUT_SECONDS - 1 < standstill < OUT_SECONDS + BACK_SECONDS, minis.log
    assert keeping.poll() is None, minis.log


def test_after_that_everything_ends_as_always(minis: Minis, keeping: subprocess.Popen[bytes]) -> None:
    keeping.send_signal(signal.SIGTERM)
    assert keeping.wait(END_SECONDS) == 0, minis.log
    for name in minis.names:
        minis.bed[name].wait_until_idle(0.5)
