"""What users get wrong, or what is missing: one clear line, an exit code, soon, and nothing left running."""

from __future__ import annotations

import json
import platform
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import openai
import pytest

import mlxserve
from mlxserve.bundle import build_id
from mlxserve.models.source import find_model
from tests.ports import free_port
from tests.system.server import MLXSERVE, BareRank, Server, start, write_hostfile

Own = Callable[[Server], Server]
IN_TIME = 60.0


def ends_with(server: Server, exit_code: int, sentence: str) -> None:
    """Assert that it ends by itself, in time, with this code and one line that says why."""
    assert server.exit_code(IN_TIME) == exit_code
    lines = [line for line in server.output.splitlines() if "error:" in line]
    assert any(sentence in line for line in lines), server.output
    assert "Traceback" not in server.output
    server.wait_until_gone(1)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_model_that_does_not_exist(own: Own, tmp_path: Path, ranks: int) -> None:
    ends_with(own(start(ranks, model=str(tmp_path / "nothing"))), 2, "There is no model at")


def test_a_worker_with_another_model_under_the_same_name_ends_all_with_its_sentence(own: Own, tmp_path: Path) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    folder = tmp_path / "model"
    shutil.copytree(find_model("demo", lambda text: None).folder, folder)
    weights = max(folder.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    content = weights.read_bytes()
    weights.write_bytes(content[:100_000] + bytes(len(content) - 100_000))
    first = own(BareRank(0, hostfile, port))
    second = own(BareRank(1, hostfile, port, model=str(folder)))
    ends_with(second, 2, "is not the same here as on rank 0")
    ends_with(first, 2, "rank 1")
    assert "is not the same here as on rank 0" in first.output


def test_a_first_rank_that_cannot_load_the_model_ends_all_with_its_sentence(own: Own, tmp_path: Path) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    first = own(BareRank(0, hostfile, port, model=str(tmp_path / "nothing")))
    second = own(BareRank(1, hostfile, port))
    ends_with(first, 2, "There is no model at")
    ends_with(second, 2, "rank 0: There is no model at")


def test_weights_that_are_cut_off_in_the_middle(own: Own, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(find_model("demo", lambda text: None).folder, folder)
    weights = max(folder.glob("*.safetensors"), key=lambda path: path.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:-1000])
    ends_with(own(start(2, model=str(folder))), 2, weights.name)


@pytest.mark.parametrize("split", ["10,10", "30", "1,2,27", "0,30", "ten,20"])
def test_a_split_that_does_not_fit(own: Own, split: str) -> None:
    ends_with(own(start(2, "--split", split)), 2, "--split")


def test_memory_that_no_sequence_fits_into_ends_every_rank(own: Own, tmp_path: Path) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    for rank in [own(BareRank(number, hostfile, port, "--kv-cache-bytes", "1000")) for number in (0, 1)]:
        ends_with(rank, 2, "--kv-cache-bytes 1000: that is too little")


def test_a_prompt_that_memory_has_no_room_for_is_refused_and_others_are_answered(own: Own) -> None:
    server = own(start(1, "--kv-cache-bytes", "13500000"))
    context = server.wait_until()["context_length"]
    assert context < 500
    with pytest.raises(openai.BadRequestError, match=f"holds {context} tokens, but the prompt is 600 tokens long"):
        server.client().completions.create(model="demo", prompt=[7] * 600)
    fitting = server.client().completions.create(model="demo", prompt=[7] * (context - 2), max_tokens=50)
    assert fitting.usage
    assert fitting.usage.completion_tokens <= 2


def test_ranks_that_are_started_with_different_splits(own: Own, tmp_path: Path) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    first = own(BareRank(0, hostfile, port, "--split", "10,20"))
    second = own(BareRank(1, hostfile, port, "--split", "20,10"))
    ends_with(first, 2, "start all ranks with the same --model, --adapter, --split, --dtype and --parallel")
    ends_with(second, 2, "start all ranks with the same --model, --adapter, --split, --dtype and --parallel")


def test_ranks_whose_models_have_different_configs(own: Own, tmp_path: Path) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    folder = tmp_path / "model"
    shutil.copytree(find_model("demo", lambda text: None).folder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rope_theta": 12345.0}))
    ranks = [own(BareRank(0, hostfile, port)), own(BareRank(1, hostfile, port, model=str(folder)))]
    for rank in ranks:
        ends_with(rank, 2, "rank 0 has a config with the digest")
    digests = re.search(
        r"has a config with the digest (\w+), rank 0 has a config with the digest (\w+):", ranks[0].output
    )
    assert digests
    assert digests[1] != digests[2]


def test_ranks_that_run_different_builds(own: Own, tmp_path: Path) -> None:
    hostfile, port = write_hostfile(tmp_path, 2), free_port()
    other = tmp_path / "mlxserve"
    shutil.copytree(Path(mlxserve.__file__).parent, other, ignore=shutil.ignore_patterns("__pycache__"))
    (other / "errors.py").write_text((other / "errors.py").read_text() + "# another build\n")
    ranks = [own(BareRank(0, hostfile, port)), own(BareRank(1, hostfile, port, package=other))]
    for rank in ranks:
        ends_with(rank, 2, f"rank 0 ({platform.node()}) runs mlxserve build {build_id()}: copy the same mlxserve")


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_port_in_use(own: Own, ranks: int) -> None:

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [MLXSERVE, "launch", "-n", str(ranks), "--model", "demo", "--port", str(port)]
        ends_with(own(Server(command, port)), 2, f"cannot listen at 127.0.0.1:{port}")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('[{"ssh": "127.0.0.1", "ips": ["127.0.0.1"]},', "hosts.json"),
        ("[]", "hosts.json"),
        ('[{"ips": ["127.0.0.1"]}]', "hosts.json"),
    ],
)
def test_a_hosts_file_with_an_error(own: Own, tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "hosts.json"
    path.write_text(content)
    ends_with(own(Server([MLXSERVE, "launch", "--hostfile", str(path), "--model", "demo"], 0)), 2, sentence)


def test_a_hosts_file_that_is_missing(own: Own, tmp_path: Path) -> None:
    path = tmp_path / "hosts.json"
    ends_with(own(Server([MLXSERVE, "launch", "--hostfile", str(path), "--model", "demo"], 0)), 2, str(path))


@pytest.mark.parametrize(("started", "missing"), [(0, 1), (1, 0)])
def test_a_machine_that_is_missing_is_named(own: Own, tmp_path: Path, started: int, missing: int) -> None:
    hostfile = write_hostfile(tmp_path, 2)
    address = json.loads(hostfile.read_text())[missing][0]
    rank = own(BareRank(started, hostfile, free_port(), "--form-timeout", "10"))
    ends_with(rank, 4, f"no answer from rank {missing} ({address})")


def test_a_machine_that_is_missing_is_noticed_within_a_minute_by_default(own: Own, tmp_path: Path) -> None:
    ends_with(own(BareRank(0, write_hostfile(tmp_path, 3), free_port())), 4, "no answer from rank 1")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--no-such-flag"], "--no-such-flag"),
        (["--port", "99999"], "--port"),
        (["--temp", "hot"], "--temp"),
        (["--dtype", "int3"], "--dtype"),
    ],
)
def test_a_wrong_flag(own: Own, flags: list[str], sentence: str) -> None:
    ends_with(own(start(1, *flags)), 2, sentence)
