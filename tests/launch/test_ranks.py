"""The variables of each rank, compared with those that `mlx.launch` sets for the same hosts."""

import importlib
import json
from pathlib import Path

import pytest

from mlxserve.launch.hostfile import read
from mlxserve.launch.ranks import ranks_of
from mlxserve.launch.request import LaunchRequest

HOSTS = [
    {"ssh": "mini-1", "ips": ["192.168.5.1", "192.168.6.1"], "rdma": [None, "rdma_en2", ["rdma_en3", "rdma_en4"]]},
    {"ssh": "mini-2", "ips": ["192.168.5.2"], "rdma": ["rdma_en2", None, "rdma_en3"]},
    {"ssh": "mini-3", "ips": ["192.168.6.3"], "rdma": [["rdma_en3", "rdma_en4"], "rdma_en2", None]},
]
TERMINAL = ("COLUMNS", "LINES")


def set_by_mlx_launch(path: str, backend: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """For each rank its environment and its files, as mlx.launch's own code computes them."""
    theirs = importlib.import_module("mlx._distributed_utils.launch")
    started: list[object] = []

    def note(_: object, arguments: list[tuple[tuple[object, ...], object]], verbose: bool) -> None:
        for (rank, _host, _python, _cwd, files, env, _command), _kwargs in arguments:
            variables = {
                name: value for name, _, value in (pair.partition("=") for pair in env) if name not in TERMINAL
            }
            parsed = {name: json.loads(content) if content else None for name, content in files.items()}
            started.append(({**variables, "MLX_RANK": str(rank)}, parsed))

    monkeypatch.setattr(theirs, "_launch_with_io", note)
    monkeypatch.setattr("sys.argv", ["mlx.launch", "--hostfile", path, "--backend", backend, *words, "--", "program"])
    theirs.main()
    return started


@pytest.mark.parametrize("backend", ["ring", "jaccl", "jaccl-ring"])
@pytest.mark.parametrize(("port", "connections"), [(0, 1), (41000, 2)])
def test_variables_are_those_of_mlx_launch(
    backend: str, port: int, connections: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps({"envs": ["FOO=a=b c"], "hosts": HOSTS}))
    words = ["--starting-port", str(port)] if port else []
    words += ["--connections-per-ip", str(connections)]
    ranks = ranks_of(read(str(path), backend), LaunchRequest(starting_port=port, connections_per_ip=connections))
    ours = [(rank.environment, {name: json.loads(text) for name, text in rank.files.items()}) for rank in ranks]
    assert ours == set_by_mlx_launch(str(path), backend, words, monkeypatch)


def test_ranks_of_jaccl_are_told_a_ring_to_fall_back_to_where_that_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps(HOSTS))
    asked, unasked = LaunchRequest(starting_port=5000, has_fallback=True), LaunchRequest()
    for rank in ranks_of(read(str(path), "jaccl"), asked):
        assert rank.environment["MLX_JACCL_COORDINATOR"] == "192.168.5.1:5000"
        assert json.loads(rank.files["MLXSERVE_FALLBACK_HOSTFILE"]) == [
            ["192.168.5.1:5001", "192.168.6.1:5002"],
            ["192.168.5.2:5003"],
            ["192.168.6.3:5004"],
        ]
    for request, backend in ((asked, "ring"), (unasked, "jaccl")):
        assert "MLXSERVE_FALLBACK_HOSTFILE" not in ranks_of(read(str(path), backend), request)[0].files


def test_a_single_rank_needs_no_hosts_file(tmp_path: Path) -> None:
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps(HOSTS[:1]))
    (rank,) = ranks_of(read(str(path)), LaunchRequest())
    assert rank.environment == {"MLX_RANK": "0"}
    assert rank.files == {}


def test_the_variable_that_deadlocks_macs_is_never_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps({"envs": ["MLX_METAL_FAST_SYNCH=1"], "hosts": HOSTS}))
    assert all("MLX_METAL_FAST_SYNCH" not in rank.environment for rank in ranks_of(read(str(path)), LaunchRequest()))
