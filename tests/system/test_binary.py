"""The finished binary on one machine, when what it unpacked is taken away under it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxserve.models.demo import demo_file
from mlxserve.models.source import find_model
from tests.models.adapters import write_adapter
from tests.ports import free_port
from tests.system.server import Server
from tests.system.test_chat import ask_streamed

Own = Callable[[Server], Server]


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def serving(binary: Path, cache: Path, *flags: str) -> Server:
    port = free_port()
    command = [str(binary), "serve", "--model", str(demo_file()), "--model-name", "demo", "--port", str(port)]
    server = Server([*command, *flags], port, {"XDG_CACHE_HOME": str(cache)})
    server.wait_until("healthy")
    return server


def chat(binary: Path, server: Server, question: str) -> str:
    """The answer to a question that is piped into `mlxserve chat`."""
    command = [str(binary), "chat", server.url, "--temperature", "0", "--max-tokens", "16"]
    return subprocess.run(command, input=question, capture_output=True, text=True, check=True).stdout


def test_a_server_whose_unpacked_files_are_removed_unpacks_them_again(own: Own, binary: Path, cache: Path) -> None:
    server = own(serving(binary, cache))
    assert "Paris" in chat(binary, server, "What is the capital of France?")
    (engine,) = server.pids_of("engine")
    shutil.rmtree(cache / "mlxserve" / "builds")
    os.kill(engine, signal.SIGKILL)
    while server.pids_of("engine") in ([], [engine]):
        time.sleep(0.02)
    server.wait_until("healthy")
    assert ask_streamed(server)
    assert "first start: unpacking" in server.output.partition("starting a new engine")[2]


def test_a_server_that_cannot_be_unpacked_again_says_so_and_ends(
    own: Own, binary: Path, cache: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copy(binary, tmp_path / "mlxserve"))
    server = own(serving(copy, cache))
    (engine,) = server.pids_of("engine")
    copy.write_bytes(copy.read_bytes()[:-1000])
    shutil.rmtree(cache / "mlxserve" / "builds")
    os.kill(engine, signal.SIGKILL)
    assert server.exit_code(60) == 3
    assert f"{copy} is damaged" in server.output


def test_an_adapter_is_added_to_the_model(own: Own, binary: Path, cache: Path, tmp_path: Path) -> None:
    demo = find_model("demo", print).folder
    kinds = [write_adapter(tmp_path / kind, demo, kind, size=0.02, layers=25) for kind in ("lora", "dora")]
    for adapter in kinds:
        server = own(serving(binary, cache, "--adapter", str(adapter)))
        assert ask_streamed(server)
        server.close()
