"""`mlxserve models`: what is on this machine, on other hosts, and loaded by a server."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mlxserve.__main__ import run
from mlxserve.config import Place, Settings
from mlxserve.launch.check.finding import size
from mlxserve.library.far import Listing
from mlxserve.library.listing import Entry
from mlxserve.models.demo import demo_file
from mlxserve.models.source import find_model
from mlxserve.models.supply.choice import find_for_worker
from mlxserve.models.weight_header import WeightHeader
from mlxserve.pipeline.loading import load_source
from tests.models.hub_server import COMMIT, HubServer
from tests.models.lines import taker_of
from tests.models.tiny import tiny_config, tiny_weights, write_tiny_gguf


def listed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What `mlxserve models --json` says of each model besides the demo, by its name."""
    capsys.readouterr()
    assert run(["models", "--json", *words]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    return {model["name"]: model for model in models if model["name"] != "demo"}


def file_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("model*.safetensors"))


def test_where_there_are_none_only_the_demo_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    assert capsys.readouterr().out.split() == ["demo", *size(demo_file().stat().st_size).split(), str(demo_file())]
    assert listed(capsys) == {}


def test_a_repository_is_told_with_what_it_lacks(hub: HubServer, capsys: pytest.CaptureFixture[str]) -> None:
    source = find_model("org/tiny", lambda text: None)
    source.fetch(lambda name: name.startswith("model.layers.0."), lambda text: None)
    (model,) = listed(capsys).values()
    assert (model["name"], model["kind"], model["missing"]) == ("org/tiny", "hub", 4)
    assert model["weight_bytes"] == file_bytes(source.folder)
    assert model["place"].endswith(COMMIT)
    run(["models"])
    assert "4 files missing  from the hub" in capsys.readouterr().out


def test_what_lies_in_a_folder_is_told_where_that_is_named(sharded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sharded.parent / "no model").mkdir()
    assert listed(capsys) == {}
    for named in (sharded, sharded.parent):
        (model,) = listed(capsys, "--folder", str(named)).values()
        assert (model["name"], model["weight_bytes"]) == (str(sharded), file_bytes(sharded))


def test_a_gguf_file_and_what_was_made_of_it_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, path = tiny_config("qwen2"), tmp_path / "files" / "tiny.gguf"
    path.parent.mkdir()
    write_tiny_gguf(path, config, tiny_weights(config), "F16")
    folder = find_model(str(path), lambda text: None).folder
    models = listed(capsys, "--folder", str(path.parent))
    assert models[str(path)]["weight_bytes"] == path.stat().st_size
    assert (models["tiny.gguf"]["kind"], models["tiny.gguf"]["weight_bytes"]) == ("converted", file_bytes(folder))


def test_kept_weights_are_told_by_the_models_name(sharded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def report(text: str) -> None:
        pass

    source = find_for_worker("/models/tiny", taker_of(find_model(str(sharded), report)), 1, report)
    load_source(source, Settings(place=Place(1, 2), dtype="float32", split=(2, 2)), report)
    tensors = {
        name: length
        for file in sharded.glob("model*.safetensors")
        for name, (_, length) in WeightHeader.read(file).tensors.items()
    }
    own = sum(length for name, length in tensors.items() if name.startswith(("model.layers.2.", "model.layers.3.")))
    (model,) = listed(capsys).values()
    assert (model["name"], model["kind"], model["weight_bytes"]) == ("/models/tiny", "kept", own)


def test_a_folder_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "--folder", "/none"]) == 2
    assert "--folder /none: there is no such folder" in capsys.readouterr().err


def hosts(tmp_path: Path, *names: str) -> str:
    entries = [{"ssh": name, "ips": [f"127.0.0.{number}"]} for number, name in enumerate(names, 1)]
    (tmp_path / "hosts.json").write_text(json.dumps({"backend": "ring", "envs": [], "hosts": entries}))
    return str(tmp_path / "hosts.json")


def program(tmp_path: Path, line: str) -> str:
    """In the place of mlxserve on a host."""
    path = tmp_path / "program"
    path.write_text(f"#!{sys.executable}\nimport os, sys\n{line}\n")
    path.chmod(0o755)
    return str(path)


def test_the_hosts_of_a_hosts_file_are_asked(
    sharded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], cache: Path
) -> None:
    asked = program(tmp_path, f"os.execv({sys.executable!r}, [{sys.executable!r}, '-m', 'mlxserve', *sys.argv[1:]])")
    words = ["--program", asked, "--folder", str(sharded), "--json"]
    assert run(["models", "--hostfile", hosts(tmp_path, "localhost"), *words]) == 0
    (models,) = json.loads(capsys.readouterr().out)["hosts"].values()
    assert str(sharded) in [model["name"] for model in models]


def test_each_host_is_told_with_its_rank(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listing = Listing([Entry("org/tiny", "hub", 5_000_000, "/hub/tiny", 1), Entry("demo", "file", 9_000_000, "/demo")])
    asked = program(tmp_path, f"print('a greeting'); print({msgspec.json.encode(listing).decode()!r})")
    assert run(["models", "--hostfile", hosts(tmp_path, "localhost"), "--program", asked]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "rank 0  localhost  org/tiny  5.0 MB, 1 file missing  from the hub  /hub/tiny",
        "rank 0  localhost  demo      9.0 MB                                /demo",
    ]


def test_a_host_that_does_not_tell_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = program(tmp_path, "print('a greeting'); sys.exit('mlxserve: error: broken')")
    assert run(["models", "--hostfile", hosts(tmp_path, "localhost"), "--program", asked]) == 2
    assert "localhost does not tell its models: mlxserve: error: broken" in capsys.readouterr().err


@pytest.mark.anyio
async def test_the_ranks_of_a_server_are_told_with_what_they_have(base: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mlxserve", "models", "--url", base),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    first, *ranks = out.decode().splitlines()
    assert first.endswith(f" at {base}")
    assert [line.split()[:3] for line in ranks] == [["rank", "0", "mini-1"], ["rank", "1", "mini-2"]]
    assert all("layers" in line and "of weights" in line for line in ranks)
