"""`mlxserve bench` against a server of two ranks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.conftest import Shared
from tests.system.server import MLXSERVE


def test_two_workloads_are_measured(shared: Shared, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    words = ["--workload", "chat,shared-prefix", "--streams", "2", "--requests", "2", "--rounds", "1", "--tokens", "4"]
    command = [MLXSERVE, "bench", shared(2).url, *words, "--json", str(file)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "tokens/s by streams" in result.stdout
    told = json.loads(file.read_text())
    assert told["servers"] == [{"url": shared(2).url, "model": "demo"}]
    chat, prefix = (each["servers"][0] for each in told["results"])
    for found in (chat, prefix):
        assert (found["requests"], found["tokens"], found["errors"], found["whole"]) == (2, 8, {}, True)
        assert 0 < found["first_token"]["p50"] <= found["first_token"]["p99"]
        assert found["tokens_per_second"] > 0
    shares = [found["cached_tokens"] / found["prompt_tokens"] for found in (chat, prefix)]
    assert shares[0] < 0.6 < shares[1] < 1
