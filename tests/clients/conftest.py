"""Real clients of one server: the demo model over two ranks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from tests.conftest import Shared
from tests.system.server import Server

HERE = Path(__file__).parent
PATIENCE = 180
"""Seconds that all cases of one client may take together on a busy machine."""

Told = dict[str, Any]
Run = Callable[[str], Told]


@pytest.fixture(scope="session")
def server(shared: Shared) -> Server:
    return shared(2)


@pytest.fixture(scope="session")
def client(server: Server) -> openai.OpenAI:
    return server.client()


@pytest.fixture(scope="session")
def claude(server: Server) -> anthropic.Anthropic:
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120)


@pytest.fixture(scope="session")
def run(server: Server) -> Run:
    """Runs one of `programs/` against the server; what it tells is an object with a field for each case."""

    def told(program: str) -> Told:
        ended = subprocess.run(
            [_interpreter(program), HERE / "programs" / program],
            env=os.environ | {"MLXSERVE_URL": server.url},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert ended.returncode == 0, ended.stderr[-4000:]
        return dict(json.loads(ended.stdout.splitlines()[-1]))

    return told


def _interpreter(program: str) -> str:
    """What runs it. Where that is not installed the test is skipped; on CI it fails."""
    node = shutil.which("node")
    python = Path(sys.prefix) / "clients" / "bin" / "python"
    if program.endswith(".mjs"):
        found = node if node and (HERE / "node_modules").is_dir() else None
    else:
        found = str(python) if python.exists() else None
    if found is None:
        missing = f"{program} lacks its client: `make test` installs it where there is Node"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return found
