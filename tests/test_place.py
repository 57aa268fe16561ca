"""The place of a rank, read from the variables that launchers set."""

import json
from pathlib import Path

import pytest

from mlxserve.config import Place
from mlxserve.errors import UserError
from mlxserve.pipeline.addresses import own_address
from mlxserve.place import over_ring, place_from

ADDRESSES = [["10.0.0.1:32323", "10.0.1.1:32324"], ["10.0.0.2:32325"]]


def written(folder: Path, content: object) -> str:
    path = folder / "list.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_alone_without_a_launcher() -> None:
    assert place_from({}, "any") == Place()


def test_a_ring(tmp_path: Path) -> None:
    environ = {"MLX_RANK": "1", "MLX_HOSTFILE": written(tmp_path, ADDRESSES)}
    ring = tuple(map(tuple, ADDRESSES))
    assert place_from(environ, "any") == Place(1, 2, "ring", ("10.0.0.1:32323", "10.0.0.2:32325"), ring=ring)


def test_rank_0_has_another_address_for_its_links_where_the_hosts_file_says_so(tmp_path: Path) -> None:
    environ = {"MLX_RANK": "0", "MLX_HOSTFILE": written(tmp_path, ADDRESSES)}
    assert own_address(place_from(environ, "any")) == "10.0.0.1"
    assert own_address(place_from(environ | {"MLXSERVE_CONTROL": "192.168.1.7"}, "any")) == "192.168.1.7"


def test_a_ring_of_one_has_an_empty_file(tmp_path: Path) -> None:
    assert place_from({"MLX_RANK": "0", "MLX_HOSTFILE": written(tmp_path, "\n")}, "ring") == Place()


def test_jaccl(tmp_path: Path) -> None:
    devices = written(tmp_path, [[None, "rdma_en2"], [["rdma_en2", "rdma_en3"], None]])
    environ = {"MLX_RANK": "1", "MLX_IBV_DEVICES": devices, "MLX_JACCL_COORDINATOR": "10.0.0.1:32323"}
    assert place_from(environ, "jaccl") == Place(1, 2, "jaccl", ("10.0.0.1:32323",))


def jaccl(folder: Path, ring: object) -> dict[str, str]:
    """The variables of a rank of two that may fall back to `ring`."""
    (folder / "devices.json").write_text(json.dumps([[None, "rdma_en2"], ["rdma_en2", None]]))
    return {
        "MLX_RANK": "1",
        "MLX_IBV_DEVICES": str(folder / "devices.json"),
        "MLX_JACCL_COORDINATOR": "10.0.0.1:32322",
        "MLXSERVE_FALLBACK_HOSTFILE": written(folder, ring),
    }


def test_jaccl_with_a_ring_to_fall_back_to(tmp_path: Path) -> None:
    place = place_from(jaccl(tmp_path, ADDRESSES), "any")
    ring = tuple(map(tuple, ADDRESSES))
    assert place == Place(1, 2, "jaccl", ("10.0.0.1:32322",), fallback=ring)
    fallen = over_ring(place)
    assert fallen == Place(1, 2, "ring", ("10.0.0.1:32323", "10.0.0.2:32325"), ring=ring, fallback=ring)
    assert (place.has_fallen_back, fallen.has_fallen_back) == (False, True)


@pytest.mark.parametrize(
    ("ring", "sentence"),
    [
        (ADDRESSES[:1], "MLXSERVE_FALLBACK_HOSTFILE names 1 ranks, but MLX_IBV_DEVICES 2"),
        ([["10.0.0.1"], ["10.0.0.2:1"]], r"MLXSERVE_FALLBACK_HOSTFILE \(.*\) must hold a list of ip:port addresses"),
    ],
)
def test_a_broken_ring_to_fall_back_to_is_told(tmp_path: Path, ring: object, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        place_from(jaccl(tmp_path, ring), "any")


@pytest.mark.parametrize("names", [("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE")])
def test_mpi(names: tuple[str, str]) -> None:
    assert place_from({names[0]: "2", names[1]: "3"}, "any") == Place(2, 3, "mpi")


@pytest.mark.parametrize(
    ("content", "rank", "sentence"),
    [
        ("[[", "0", "which is not the list it should be"),
        ({"hosts": []}, "0", "which is not the list it should be"),
        ([["10.0.0.1"], ["10.0.0.2:1"]], "0", "must hold a list of ip:port addresses"),
        ([[], ["10.0.0.2:1"]], "0", "must hold a list of ip:port addresses"),
        (ADDRESSES, "2", "this is rank 2, but there are only 2 ranks"),
        (ADDRESSES, "one", "MLX_RANK must be a whole number, not 'one'"),
    ],
)
def test_a_broken_ring_is_told(tmp_path: Path, content: object, rank: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        place_from({"MLX_RANK": rank, "MLX_HOSTFILE": written(tmp_path, content)}, "any")


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"MLX_RANK": "0", "MLX_HOSTFILE": "/nowhere.json"}, "/nowhere.json, which cannot be read: No such file"),
        ({"MLX_RANK": "1"}, "MLX_RANK is 1, but MLX_HOSTFILE, which names the other ranks, is not set"),
        ({"MLX_JACCL_COORDINATOR": "10.0.0.1:1"}, "MLX_IBV_DEVICES, the file of RDMA devices, is not"),
        ({"MLX_RANK": "0", "MLX_WORLD_SIZE": "2"}, "started for nccl"),
    ],
)
def test_contradictions_are_told(environ: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        place_from(environ, "any")


def test_another_backend_than_the_launchers_is_told(tmp_path: Path) -> None:
    environ = {"MLX_RANK": "0", "MLX_HOSTFILE": written(tmp_path, ADDRESSES)}
    with pytest.raises(UserError, match="--backend jaccl was asked for, but the ranks were started for ring"):
        place_from(environ, "jaccl")
