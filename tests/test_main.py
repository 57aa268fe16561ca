"""The program's start and end: Ctrl-C at any moment, and output that is closed, full, or that nobody reads."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

INTERRUPTED = """
import os, signal, sys
from mlxserve.__main__ import main

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
_, moment, *words = sys.argv
sys.argv[1:] = words
main()
"""
"""A program that is interrupted when it imports a module, the first of its words."""


@pytest.mark.parametrize(
    ("moment", "command"),
    [
        ("multiprocessing", "version"),
        ("mlxserve.cli", "version"),
        ("mlxserve.versions", "version"),
        ("mlxserve.launch.hosts_command", "hosts a b"),
        ("mlxserve.launch.discovery", "hosts a b"),
        ("mlxserve.launch.check.facts", "check -n 1"),
        ("mlxserve.launch.launcher", "launch -n 1"),
        ("mlxserve.node", "serve"),
        ("mlxserve.engine.child", "serve"),
    ],
)
def test_ctrl_c_while_it_loads_ends_it_without_a_traceback(moment: str, command: str) -> None:
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, moment, *command.split()], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


def test_an_interrupt_that_is_ignored_stays_so() -> None:
    """As shells do for what they start in the background."""
    command = ["bash", "-c", 'trap "" INT; exec "$@"', "bash", sys.executable, "-c", INTERRUPTED, "mlxserve.cli"]
    assert subprocess.run([*command, "version"], capture_output=True).returncode == 0


def ended(redirected: str, command: str) -> subprocess.CompletedProcess[str]:
    """`command` with output as bash redirects it; its own exit code."""
    script = f'exec {{pipe}}> >(exec true); wait $!; "$@" {redirected}'
    words = ["bash", "-c", script, "bash", sys.executable, "-m", "mlxserve", *command.split()]
    return subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


@pytest.mark.parametrize("command", ["version", "--version", "service status", "check -n 1", "check -n 1 --json"])
def test_output_that_nobody_reads_ends_it_without_a_word(command: str) -> None:
    done = ended(">&$pipe", command)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("command", ["version", "check -n 1"])
def test_output_that_cannot_be_written_is_told_in_a_sentence(command: str) -> None:
    done = ended("> /dev/full", command)
    assert (done.returncode, done.stderr) == (1, "mlxserve: error: cannot go on: No space left on device\n")


@pytest.mark.parametrize("redirected", ["2>&$pipe", "2> /dev/full", "2>&-"])
def test_an_error_that_nobody_can_be_told_keeps_its_exit_code(redirected: str) -> None:
    assert ended(redirected, "nonsense").returncode == 2


@pytest.mark.parametrize("redirected", [">&-", "<&- >&- 2>&-"])
def test_closed_output_is_no_mistake(redirected: str) -> None:
    done = ended(redirected, "check -n 1")
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
