"""The demo model with an adapter: two ranks write what mlx-lm does on one; ranks that have other ones are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlxserve.config import Place
from mlxserve.engine.environment import engine_environment
from mlxserve.models.source import find_model
from tests.models.adapters import write_adapter
from tests.ports import free_port
from tests.system.server import BareRank, Server, start, write_hostfile

Own = Callable[[Server], Server]
PROMPT = "Once upon a time there was a lighthouse, and in it lived"
TOKENS = 16
MLX_LM = """
import sys
from mlx_lm import generate
from mlx_lm.tokenizer_utils import load
from mlx_lm.tuner.utils import load_adapters
from mlxserve.models.source import find_model
adapter, prompt, tokens = sys.argv[1:]
demo = find_model("demo", lambda line: None)
model = load_adapters(demo.load("float32"), adapter)
model.eval()
print(generate(model, load(demo.folder), prompt=prompt, max_tokens=int(tokens)))
"""


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two for the demo model, of which the first changes what it writes."""
    demo = find_model("demo", print).folder
    folder = tmp_path_factory.mktemp("adapters")
    return [write_adapter(folder / str(rank), demo, rank=rank, layers=25, size=0.02) for rank in (4, 8)]


def written_by(server: Server) -> str:
    server.wait_until("healthy")
    answer = server.client().completions.create(model="demo", prompt=PROMPT, temperature=0, max_tokens=TOKENS)
    return answer.choices[0].text


def test_two_ranks_write_with_an_adapter_what_mlx_lm_writes_on_one(
    own: Own, plain: Server, adapters: list[Path]
) -> None:
    mlx_lm = subprocess.run(
        [sys.executable, "-c", MLX_LM, str(adapters[0]), PROMPT, str(TOKENS)],
        env=engine_environment(os.environ, Place()),
        capture_output=True,
        text=True,
        check=True,
    )
    text = written_by(own(start(2, "--adapter", str(adapters[0]))))
    assert text.lstrip() == mlx_lm.stdout.removesuffix("\n")  # its detokenizer leaves out the first space
    assert text != written_by(plain)


@pytest.mark.parametrize("second", [None, 1])
def test_ranks_that_are_started_with_different_adapters(
    own: Own, tmp_path: Path, adapters: list[Path], second: int | None
) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    first = own(BareRank(0, hostfile, port, "--adapter", str(adapters[0])))
    other = [] if second is None else ["--adapter", str(adapters[second])]
    ranks = [first, own(BareRank(1, hostfile, port, *other))]
    for rank in ranks:
        assert rank.exit_code(60) == 2
        assert "rank 0 has an adapter with the digest" in rank.output
        assert "start all ranks with the same --model, --adapter, --split, --dtype and --parallel" in rank.output
