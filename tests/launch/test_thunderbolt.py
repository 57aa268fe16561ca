"""RDMA devices from what Macs tell of their Thunderbolt ports, in the format of macOS's `system_profiler`."""

import json

import pytest

from mlxserve.errors import UserError
from mlxserve.launch.thunderbolt import Cabling

Cable = tuple[tuple[str, int], tuple[str, int]]


def bus(host: str, port: int, cables: list[Cable]) -> dict[str, object]:
    ends = [cable for cable in cables if (host, port) in cable]
    peers = [end for cable in ends for end in cable if end != (host, port)]
    told: dict[str, object] = {
        "_name": f"thunderboltusb5_bus_{port}",
        "device_name_key": "Mac mini",
        "domain_uuid_key": f"UUID-{host}-{port}",
        "receptacle_1_tag": {
            "current_speed_key": "Up to 80 Gb/s",
            "link_status_key": "0x2" if peers else "0x7",
            "receptacle_id_key": str(port),
            "receptacle_status_key": "receptacle_connected" if peers else "receptacle_no_devices_connected",
        },
        "route_string_key": "0",
        "vendor_name_key": "Apple Inc.",
    }
    if peers:
        ((peer, peer_port),) = peers
        told["_items"] = [{"_name": "Mac mini", "device_id_key": "0xA", "domain_uuid_key": f"UUID-{peer}-{peer_port}"}]
    return told


def mac(host: str, cables: list[Cable], rdma: bool = True) -> str:
    """A Mac with three ports; port n is device en(n + 1)."""
    profile = {"SPThunderboltDataType": [bus(host, port, cables) for port in (3, 1, 2)]}
    ports = "\n".join(
        f"\nHardware Port: Thunderbolt {port}\nDevice: en{port + 1}\nEthernet Address: x" for port in (1, 2, 3)
    )
    devices = "".join(f"    rdma_en{port + 1}    \t34f511223344000{port}\n" for port in (1, 2, 3)) if rdma else ""
    listed = f"    device          \t   node GUID\n    ------          \t----------------\n{devices}"
    return f"== thunderbolt\n{json.dumps(profile, indent=2)}\n== ports\n{ports}\n== rdma\n{listed}"


def cabling(names: str, cables: list[Cable]) -> Cabling:
    return Cabling(list(names), [mac(name, cables) for name in names])


TRIANGLE: list[Cable] = [(("a", 1), ("b", 2)), (("b", 1), ("c", 2)), (("c", 1), ("a", 2))]
SQUARE: list[Cable] = [(("a", 1), ("c", 2)), (("c", 1), ("b", 2)), (("b", 1), ("d", 2)), (("d", 1), ("a", 2))]


def test_two_macs_and_one_cable() -> None:
    pair = cabling("ab", [(("a", 3), ("b", 1))])
    assert pair.mesh() == pair.order() == [0, 1]
    assert pair.rdma([0, 1], near_only=False) == [[None, "rdma_en4"], ["rdma_en2", None]]


def test_two_cables_are_two_devices() -> None:
    pair = cabling("ab", [(("a", 1), ("b", 1)), (("a", 2), ("b", 3))])
    assert pair.rdma([0, 1], False) == [[None, ["rdma_en2", "rdma_en3"]], [["rdma_en2", "rdma_en4"], None]]


def test_three_macs_each_cabled_to_each() -> None:
    mesh = cabling("abc", TRIANGLE)
    assert mesh.rdma(mesh.mesh(), near_only=False) == [
        [None, "rdma_en2", "rdma_en3"],
        ["rdma_en3", None, "rdma_en2"],
        ["rdma_en2", "rdma_en3", None],
    ]


def test_a_ring_of_four_is_put_in_the_order_of_its_cables() -> None:
    ring = cabling("abcd", SQUARE)
    order = ring.order()
    assert order in ([0, 2, 1, 3], [0, 3, 1, 2])
    assert cabling("acbd", SQUARE).rdma([0, 1, 2, 3], near_only=True) == [
        [None, "rdma_en2", None, "rdma_en3"],
        ["rdma_en3", None, "rdma_en2", None],
        [None, "rdma_en3", None, "rdma_en2"],
        ["rdma_en2", None, "rdma_en3", None],
    ]
    with pytest.raises(UserError, match="jaccl needs a Thunderbolt cable between each two hosts: there are a to c"):
        ring.mesh()


def test_a_missing_cable_is_told_with_those_that_are_there() -> None:
    with pytest.raises(UserError, match="jaccl-ring needs Thunderbolt cables in a ring: there are a to b, b to c"):
        cabling("abc", TRIANGLE[:2]).order()
    with pytest.raises(UserError, match="there is none between these hosts"):
        cabling("ab", []).mesh()


def test_a_mac_whose_rdma_is_off_is_told() -> None:
    cable: list[Cable] = [(("a", 1), ("b", 1))]
    pair = Cabling(["a", "b"], [mac("a", cable), mac("b", cable, rdma=False)])
    with pytest.raises(UserError, match=r"b has no RDMA device rdma_en2: .*rdma_ctl enable"):
        pair.rdma([0, 1], near_only=False)


@pytest.mark.parametrize(
    ("output", "sentence"), [("", "b is no Mac"), ("== thunderbolt\nnothing\n== ports\n", "b does not tell")]
)
def test_what_is_no_mac_is_told(output: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        Cabling(["a", "b"], [mac("a", []), output])
