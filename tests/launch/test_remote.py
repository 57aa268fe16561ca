"""A script run once on a host: its answer, and its end."""

import asyncio
import time
from pathlib import Path

import pytest

from mlxserve.errors import UserError
from mlxserve.launch.hostfile import Host
from mlxserve.launch.remote import TIMED_OUT, Answer, run_on

HERE = Host("127.0.0.1")


def test_a_script_is_given_its_input_and_answers() -> None:
    answer = asyncio.run(run_on(HERE, "cat; echo sorry >&2; exit 3", b"words"))
    assert answer == Answer(3, "words", "sorry")


def test_a_script_that_takes_too_long_is_ended_with_its_children() -> None:
    began = time.monotonic()
    answer = asyncio.run(run_on(HERE, "sleep 60 & sleep 60", timeout=0.2))
    assert answer.code == TIMED_OUT
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("name", ["127.0.0.1", "mini-1"])
def test_a_script_that_ends_with_sshs_own_code_has_reached_its_host(hosts: Path, name: str) -> None:
    assert asyncio.run(run_on(Host(name), "echo sorry >&2; exit 255")) == Answer(3, "", "sorry")


def test_a_missing_ssh_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="mini-2 needs ssh, which is not installed here"):
        asyncio.run(run_on(Host("mini-2"), "true"))
