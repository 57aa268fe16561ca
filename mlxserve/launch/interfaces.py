"""A host's network interfaces: which have an IPv4 address that other machines can reach, and what kind each is.

Asked by one bash script, since a host has no Python: macOS answers with `ifconfig` and `networksetup`, Linux with
`ip` and /sys. (MLX's `distributed_config` asks for the address of en0 or en1 alone, and of Macs alone.)
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from enum import IntEnum

import msgspec

SCRIPT = """\
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL=C
echo
case $(uname -s) in
Darwin)
    echo "== ifconfig"; ifconfig
    echo "== ports"; networksetup -listallhardwareports ;;
*)
    echo "== addresses"; ip -j -4 address
    echo "== kinds"
    for device in /sys/class/net/*; do
        kind=$(basename "$(readlink "$device/device/driver")" 2> /dev/null)
        if [ -e "$device/wireless" ] || [ -e "$device/phy80211" ]; then kind=wifi; fi
        members=$(ls "$device/brif" 2> /dev/null)
        echo "${device##*/} ${kind:--}" $members
    done ;;
esac"""

THUNDERBOLT_DRIVERS = ("thunderbolt-net", "thunderbolt_net")
NOT_BETWEEN_MACHINES = re.compile(
    r"(lo|ap)\d*|bridge1\d\d|(utun|awdl|llw|anpi|gif|stf|feth|vmnet|vmenet|docker|br-|virbr|vboxnet|veth|cni|flannel|cali"
    r"|lxc|lxd|podman|tailscale|wg|zt|tun|tap)[\w.-]*"
)
"""Devices of this machine alone, of containers and virtual machines, and tunnels."""


class Kind(IntEnum):
    """What joins the machines, the better first."""

    THUNDERBOLT = 0
    ETHERNET = 1
    WIFI = 2


class Interface(msgspec.Struct, frozen=True):
    """An address of a host, its network's prefix length, and its device, by name and as people call it."""

    device: str
    medium: str
    kind: Kind
    address: str
    prefix: int

    @property
    def network(self) -> ipaddress.IPv4Network:
        """The addresses it reaches without a router."""
        return ipaddress.IPv4Network((self.address, self.prefix), strict=False)

    @property
    def is_link_local(self) -> bool:
        """Whether the address was picked by chance, and will be again."""
        return ipaddress.IPv4Address(self.address).is_link_local

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix} ({self.device}, {self.medium})"


def sections(output: str) -> dict[str, str]:
    """The parts of a script's answer by their headings; what a shell's start-up files wrote before them left out."""
    parts = re.split(r"^== (.+)\n", output, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def interfaces_from(output: str) -> tuple[Interface, ...]:
    """What SCRIPT told. Raises ValueError where it told nothing that can be read."""
    told = sections(output)
    if "ifconfig" in told:
        found = _of_mac(told["ifconfig"], _by_device(told.get("ports", "")))
    elif "addresses" in told:
        found = _of_linux(told["addresses"], told.get("kinds", ""))
    else:
        raise ValueError("no list of interfaces")
    return tuple(each for each in found if each.prefix < 32 and not NOT_BETWEEN_MACHINES.fullmatch(each.device))


def _of_mac(listing: str, ports: dict[str, str]) -> Iterator[Interface]:
    for block in re.split(r"^(?=\S)", listing, flags=re.MULTILINE):
        head = re.match(r"(\S+): flags=\w+<([^>]*)>", block)
        if not head or "UP" not in head[2].split(",") or {"LOOPBACK", "POINTOPOINT"} & set(head[2].split(",")):
            continue
        members = re.findall(r"^\s+member: (\S+)", block, re.MULTILINE)
        medium = ports.get(head[1]) or _named_for(head[1], [ports.get(member, "") for member in members])
        for address, mask in re.findall(r"^\s+inet (\S+) netmask (0x\w+)", block, re.MULTILINE):
            if medium and (kind := _kind_of_port(medium)) is not None:
                yield Interface(head[1], medium, kind, address, int(mask, 16).bit_count())


def _by_device(listing: str) -> dict[str, str]:
    """The names of the hardware ports."""
    from mlx._distributed_utils.config import parse_hardware_ports

    return {device: str(name) for name, device in parse_hardware_ports(listing.encode()).items()}


def _named_for(device: str, members: list[str]) -> str:
    """A name for what is no hardware port: a bridge or bond is as slow as its slowest member."""
    if any(members):
        return max(members, key=lambda name: _kind_of_port(name) or 0)
    if device == "bridge0":
        return "Thunderbolt Bridge"
    return "Ethernet" if device.startswith(("en", "bond", "vlan")) else ""


def _kind_of_port(name: str) -> Kind | None:
    if name.startswith("Thunderbolt") and "Ethernet" not in name:
        return Kind.THUNDERBOLT
    if name in ("Wi-Fi", "AirPort"):
        return Kind.WIFI
    return None if "Bluetooth" in name or "iPhone" in name else Kind.ETHERNET


class _Address(msgspec.Struct):
    local: str = ""
    prefixlen: int = 32
    family: str = "inet"


class _Device(msgspec.Struct):
    ifname: str = ""
    flags: list[str] = []
    addr_info: list[_Address] = []


MEDIUM = {Kind.THUNDERBOLT: "Thunderbolt", Kind.ETHERNET: "Ethernet", Kind.WIFI: "Wi-Fi"}


def _of_linux(listing: str, kinds: str) -> Iterator[Interface]:
    lines = [line.split() for line in kinds.splitlines()]
    alone = {device: _kind_of_driver(device, driver) for device, driver, *_ in lines}
    joined = {
        device: max((alone.get(each, Kind.ETHERNET) for each in members), default=alone[device])
        for device, _, *members in lines
    }
    for device in msgspec.json.decode(listing, type=list[_Device]):
        if "UP" not in device.flags or {"LOOPBACK", "POINTOPOINT"} & set(device.flags):
            continue
        kind = joined.get(device.ifname, _kind_of_driver(device.ifname, ""))
        for each in device.addr_info:
            if each.family == "inet":
                yield Interface(device.ifname, MEDIUM[kind], kind, each.local, each.prefixlen)


def _kind_of_driver(device: str, driver: str) -> Kind:
    if driver in THUNDERBOLT_DRIVERS or device.startswith("thunderbolt"):
        return Kind.THUNDERBOLT
    return Kind.WIFI if driver == "wifi" or device.startswith("wl") else Kind.ETHERNET
