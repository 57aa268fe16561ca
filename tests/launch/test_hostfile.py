"""The hosts file: what is read from it, and the sentence for each mistake in it."""

import json
from pathlib import Path

import pytest

from mlxserve.errors import UserError
from mlxserve.launch.hostfile import Host, Hostfile, ranks_here, read, require_fallback

MINIS = [{"ssh": "mini-1", "ips": ["192.168.5.1"]}, {"ssh": "mini-2", "ips": ["192.168.5.2"]}]
RDMA = [{**MINIS[0], "rdma": [None, "rdma_en2"]}, {**MINIS[1], "rdma": ["rdma_en2", None]}]


def written(folder: Path, content: object) -> str:
    path = folder / "hosts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_the_example_of_the_repository_names_two_minis() -> None:
    example = read(str(Path(__file__).parents[2] / "hosts.json"))
    assert example == Hostfile((Host("mini-1", ("192.168.5.1",)), Host("mini-2", ("192.168.5.2",))), "ring", ())


def test_a_bare_list_of_hosts_is_a_ring(tmp_path: Path) -> None:
    assert read(written(tmp_path, MINIS)).backend == "ring"


def test_the_command_line_overrides_the_backend(tmp_path: Path) -> None:
    assert read(written(tmp_path, {"backend": "jaccl", "hosts": MINIS}), "ring").backend == "ring"


def test_several_ranks_may_share_this_machine(tmp_path: Path) -> None:
    here = {"ssh": "127.0.0.1", "ips": ["127.0.0.1"]}
    assert read(written(tmp_path, [here, here])) == ranks_here(2)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"hosts": [', "Failed to parse hostfile"),
        ({"backend": "ring"}, "'hosts' is missing"),
        ([{"ips": ["192.168.5.1"]}], "'ssh' is missing"),
        (["mini-1"], 'each host must be like {"ssh": "mini-1"'),
        ([], "it names no host"),
        ([{"ssh": 5, "ips": ["192.168.5.1"]}], "Expected `str`, got `int`"),
        ([{"ssh": "mini-1"}], "mini-1 has no ips, which the ring backend needs"),
        (
            [{"ssh": "mini-1", "ips": ["mini-1.local"]}],
            "'mini-1.local', among the ips of mini-1, is not an IPv4 address",
        ),
        ([{"ssh": "-oProxyCommand=x", "ips": ["192.168.5.1"]}], "is not a name that ssh can connect to"),
        ([MINIS[0], {**MINIS[1], "ssh": "mini-1"}], "mini-1 is named for 2 hosts, but each machine runs one rank"),
        ([MINIS[0], {**MINIS[1], "ips": ["192.168.5.1"]}], "192.168.5.1 is named for 2 hosts"),
        ({"backend": "nccl", "hosts": MINIS}, "its backend is 'nccl', but must be one of ring, jaccl, jaccl-ring, mpi"),
        ({"envs": "A=1", "hosts": MINIS}, "Expected `array`, got `str`"),
        ({"envs": [1], "hosts": MINIS}, "Expected `str`, got `int`"),
        ({"envs": ["A"], "hosts": MINIS}, "'A' in its envs is not of the form NAME=value"),
        ({"envs": ["A;rm=1"], "hosts": MINIS}, "'A;rm=1' in its envs is not of the form NAME=value"),
        ({"backend": "jaccl", "hosts": MINIS}, "mini-1 names 0 RDMA devices, but must name one for each host (2)"),
        (
            {"backend": "jaccl", "hosts": [{**RDMA[0], "rdma": ["rdma_en2", None]}, RDMA[1]]},
            "the RDMA device of mini-1 to itself must be null",
        ),
        (
            {"backend": "jaccl", "hosts": [RDMA[0], {**RDMA[1], "rdma": [None, None]}]},
            "no RDMA device is listed for mini-2 to mini-1",
        ),
        ({"backend": "jaccl", "hosts": [{**RDMA[0], "ips": []}, RDMA[1]]}, "mini-1 has no ips, but rank 0 needs one"),
    ],
)
def test_each_mistake_has_its_sentence(tmp_path: Path, content: object, sentence: str) -> None:
    with pytest.raises(UserError) as raised:
        read(written(tmp_path, content))
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
    assert "hosts.json" in str(raised.value)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UserError, match=r"nowhere\.json doesn't exist"):
        read("nowhere.json")


def test_jaccl_needs_a_hosts_file() -> None:
    with pytest.raises(UserError, match="use --hostfile instead of -n"):
        ranks_here(2, "jaccl")


@pytest.mark.parametrize(
    ("hosts", "sentence"),
    [
        (Hostfile((Host("mini-1", ("10.0.0.1",)), Host("mini-2")), "jaccl"), "mini-2 has no ips, but --fallback ring"),
        (ranks_here(2, "mpi"), "--fallback ring is for jaccl, but the backend is mpi"),
    ],
)
def test_hosts_that_cannot_fall_back_to_a_ring_are_told(hosts: Hostfile, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        require_fallback(hosts)


@pytest.mark.parametrize("backend", ["ring", "jaccl"])
def test_hosts_with_addresses_can(backend: str, tmp_path: Path) -> None:
    require_fallback(read(written(tmp_path, RDMA), backend))
