"""RDMA over Thunderbolt: which device of each Mac leads to which other, as JACCL needs to know.

Who is cabled to whom is worked out by MLX's own `distributed_config`. Only how the Macs are asked is ours: MLX's
asks by an ssh that may wait for a password, one host after the other, and sets their addresses by sudo.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mlxserve.errors import UserError
from mlxserve.launch.hostfile import Rdma
from mlxserve.launch.interfaces import sections

SCRIPT = """\
PATH=$PATH:/usr/sbin:/sbin
echo
if [ "$(uname -s)" = Darwin ]; then
    echo "== thunderbolt"; system_profiler SPThunderboltDataType -json
    echo "== ports"; networksetup -listallhardwareports
    echo "== rdma"; ibv_devices
fi"""


class _Peer(msgspec.Struct):
    domain_uuid_key: str | None = None


class _Receptacle(msgspec.Struct):
    receptacle_id_key: str = ""


class _Bus(msgspec.Struct):
    device_name_key: str = ""
    domain_uuid_key: str | None = None
    receptacle_1_tag: _Receptacle = msgspec.field(default_factory=_Receptacle)
    peers: list[_Peer] = msgspec.field(name="_items", default_factory=list)


class _Profile(msgspec.Struct):
    buses: list[_Bus] = msgspec.field(name="SPThunderboltDataType")


class Cabling:
    """The Thunderbolt cables between Macs, from what SCRIPT told of each. Raises UserError where one told nothing."""

    def __init__(self, names: list[str], outputs: list[str]) -> None:
        from mlx._distributed_utils.config import IPConfigurator, make_connectivity_matrix

        told = [sections(output) for output in outputs]
        macs: list[Any] = [_mac(name, parts) for name, parts in zip(names, told, strict=True)]
        ports = {port.uuid: (i, j) for i, mac in enumerate(macs) for j, port in enumerate(mac.ports)}
        self._names = names
        self._devices = [set(parts.get("rdma", "").split()) for parts in told]
        self._cables: Any = IPConfigurator(names, macs, ports).ips
        self._count: list[list[int]] = make_connectivity_matrix(macs, ports)

    def order(self) -> list[int]:
        """The hosts in an order in which each is cabled to the next, the first one first. Raises UserError."""
        from mlx._distributed_utils.config import check_valid_ring, extract_rings

        rings = extract_rings(self._count)
        if not check_valid_ring(self._names, rings, strict=False):
            raise UserError(f"jaccl-ring needs Thunderbolt cables in a ring: {self._described()}")
        return list(rings[0][0])

    def mesh(self) -> list[int]:
        """The hosts in their order. Raises UserError where two of them have no cable between them."""
        from mlx._distributed_utils.config import check_valid_mesh

        if not check_valid_mesh(self._names, self._count, strict=False):
            raise UserError(f"jaccl needs a Thunderbolt cable between each two hosts: {self._described()}")
        return list(range(len(self._names)))

    def rdma(self, order: list[int], near_only: bool) -> list[list[Rdma]]:
        """The device or devices of each host to each other, in `order`; with `near_only` to its neighbours alone."""
        near = {(a, b) for i, a in enumerate(order) for b in (order[i - 1], order[(i + 1) % len(order)])}
        pairs = [(a, b) for a in order for b in order if a != b and (not near_only or (a, b) in near)]
        count = min(len(self._cables[pair]) for pair in pairs)
        return [[self._between(a, b, count) if (a, b) in pairs else None for b in order] for a in order]

    def _between(self, one: int, other: int, count: int) -> Rdma:
        devices = [f"rdma_{interface}" for interface, _ in self._cables[one, other][:count]]
        for device in devices:
            if device not in self._devices[one]:
                raise UserError(
                    f"{self._names[one]} has no RDMA device {device}: jaccl needs Thunderbolt 5, macOS 26.2 or later, "
                    "and RDMA switched on (`rdma_ctl enable` in the recovery system)"
                )
        return devices[0] if count == 1 else devices

    def _described(self) -> str:
        pairs = [(one, other) for one in range(len(self._names)) for other in range(one)]
        cables = [f"{self._names[other]} to {self._names[one]}" for one, other in pairs if self._count[one][other]]
        return f"there are {', '.join(cables)}" if cables else "there is none between these hosts"


def _mac(name: str, told: dict[str, str]) -> Any:
    from mlx._distributed_utils.config import ThunderboltHost, ThunderboltPort, parse_hardware_ports

    if "thunderbolt" not in told:
        raise UserError(f"{name} is no Mac, and jaccl is for Macs alone: use --backend ring")
    try:
        buses = msgspec.json.decode(told["thunderbolt"], type=_Profile).buses
    except msgspec.DecodeError as error:
        raise UserError(f"{name} does not tell its Thunderbolt ports (system_profiler: {error})") from error
    devices = parse_hardware_ports(told["ports"].encode())
    ports = []
    for bus in buses:
        device = devices.get(f"Thunderbolt {bus.receptacle_1_tag.receptacle_id_key}")
        peers = [peer.domain_uuid_key for peer in bus.peers if peer.domain_uuid_key]
        if device and bus.domain_uuid_key:
            ports.append(ThunderboltPort(device, bus.domain_uuid_key, peers[0] if peers else None))
    return ThunderboltHost(name, sorted(ports, key=lambda port: port.iface))
