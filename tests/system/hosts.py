"""Hosts joined by cables (veth pairs).

Nothing of them has a name outside, so that test runs do not get in each other's way, and the kernel removes
all of a bed when its processes end, which they do with the test process, however that ends.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import shutil
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

from tests.system import made_before
from tests.system.host import HOME, REPOSITORY, TOOLS, Host, run_tool

__all__ = ["HOME", "REPOSITORY", "Bed", "Host", "install", "three_minis", "two_minis"]

PROGRAM = f"""\
#!{sys.executable}
import os, sys
sys.path.insert(0, "{REPOSITORY}")
os.environ["PYTHONPATH"] = "{REPOSITORY}"
os.environ["OPENBLAS_NUM_THREADS"] = "1"
from mlxserve.__main__ import main
main()
"""
"""Hosts do not know that they share this machine's cores."""


class Bed:
    """Some hosts and the cables between them. Use it in a `with` statement."""

    def __init__(self, folder: Path) -> None:
        """`folder` takes the hosts' files."""
        self.hosts: dict[str, Host] = {}
        self._folder = folder
        self._cables: dict[frozenset[str], list[str]] = {}

    def __enter__(self) -> Bed:
        for reason in _missing():
            _refuse(reason)
        run_tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._folder / "key"))
        return self

    def __exit__(self, *error: object) -> None:
        for host in self.hosts.values():
            host.close()

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def add(self, *names: str, python: bool = False) -> None:
        """Start hosts: with `python` the interpreter of the tests, its packages and this repository are there."""
        for name in names:
            self.hosts[name] = Host(name, self._folder / name, python)
        for name in names:
            self.hosts[name].wait_until_up()
        self._introduce()

    def join(self, first: str, second: str, network: str, device: str = "") -> None:
        """Lay a cable: the first two addresses of `network` are theirs; `device` is its interface on both."""
        device = device or f"eth{sum(map(len, self._cables.values()))}"
        self._lay(first, second, device)
        self._address({first: device, second: device}, network)

    def plug(self, switch: str, *names: str, network: str) -> None:
        """Lay a cable from each of `names` to the host `switch`, over which all reach each other."""
        bridge, ports = "lan0", {name: f"port{number}" for number, name in enumerate(names)}
        _ip(self.hosts[switch], "link", "add", bridge, "type", "bridge")
        for name, port in ports.items():
            self._lay(name, switch, port)
            _ip(self.hosts[switch], "link", "set", port, "master", bridge)
        self._address({switch: bridge, **ports}, network)

    def cut(self, first: str, second: str) -> None:
        """Take away all cables between two hosts."""
        self._set(first, second, "down")

    def mend(self, first: str, second: str) -> None:
        """Put them back."""
        self._set(first, second, "up")

    def write_hostfile(self, on: str, *names: str, file: str = "hosts.json", envs: Sequence[str] = ()) -> Path:
        """Write MLX's hosts file for `names` into the home of the host `on`; returns where that is outside."""
        hosts = []
        for name in names:
            host = self.hosts[name]
            to_others = [host.addresses[other] for other in names if other in host.addresses]
            hosts.append({"ssh": name, "ips": list(dict.fromkeys(to_others))})
        path = self.hosts[on].home / file
        path.write_text(json.dumps({"backend": "ring", "envs": list(envs), "hosts": hosts}))
        return path

    def _set(self, first: str, second: str, state: str) -> None:
        for device in self._cables[frozenset((first, second))]:
            for name in (first, second):
                _ip(self.hosts[name], "link", "set", device, state)

    def _lay(self, first: str, second: str, device: str) -> None:
        one, other = self.hosts[first], self.hosts[second]
        peer = ("peer", "name", device, "netns", str(other.pid))
        run_tool("ip", "link", "add", device, "netns", str(one.pid), "type", "veth", *peer)
        self._cables.setdefault(frozenset((first, second)), []).append(device)
        self._set(first, second, "up")

    def _address(self, devices: dict[str, str], network: str) -> None:
        """Give hosts, at these interfaces, addresses and tell them each other's."""
        subnet = ipaddress.ip_network(network)
        addresses = dict(zip(devices, map(str, subnet.hosts()), strict=False))
        for name, address in addresses.items():
            _ip(self.hosts[name], "address", "add", f"{address}/{subnet.prefixlen}", "dev", devices[name])
            _ip(self.hosts[name], "link", "set", devices[name], "up")
            for other in addresses.keys() - {name}:
                self.hosts[name].addresses.setdefault(other, address)
                with (self._folder / other / "hosts").open("a") as file:
                    file.write(f"{address} {name}\n")

    def _introduce(self) -> None:
        """Let each host log in at each: one user key for all, every host's key known."""
        known = "".join(f"* {(self._folder / name / 'host_key.pub').read_text()}" for name in self.hosts)
        for host in self.hosts.values():
            folder = host.home / ".ssh"
            (folder / "known_hosts").write_text(known)
            shutil.copy(self._folder / "key", folder / "id_ed25519")
            shutil.copy(self._folder / "key.pub", folder / "authorized_keys")


@contextlib.contextmanager
def two_minis(folder: Path, python: Collection[str] = ("client",)) -> Iterator[Bed]:
    """mini-1 and mini-2 joined by a cable, and a client joined to mini-1 by another; those in `python` have Python."""
    with Bed(folder) as bed:
        for name in ("mini-1", "mini-2", "client"):
            bed.add(name, python=name in python)
        bed.join("mini-1", "mini-2", "192.168.5.0/30", "thunderbolt0")
        bed.join("mini-1", "client", "192.168.6.0/30", "lan0")
        yield bed


@contextlib.contextmanager
def three_minis(folder: Path) -> Iterator[Bed]:
    """mini-1, mini-2, mini-3 and a client, all with Python, on one switch."""
    minis = ("mini-1", "mini-2", "mini-3")
    with Bed(folder) as bed:
        bed.add(*minis, "client", python=True)
        bed.plug("client", *minis, network="192.168.7.0/29")
        yield bed


def install(host: Host) -> None:
    """Put mlxserve, as it is in this repository, into the home folder of a host that has Python, as if used before."""
    made_before.give(host.home / ".cache", made_before.KERNELS, made_before.MODELS)
    program = host.home / "mlxserve"
    program.write_text(PROGRAM)
    program.chmod(0o755)


def _ip(host: Host, *words: str) -> None:
    run_tool("nsenter", "--net", "--target", str(host.pid), "ip", *words)


def _missing() -> Iterator[str]:
    """Why there can be no hosts on this machine."""
    if os.geteuid() != 0:
        yield "only root can make network namespaces"
    for name, path in TOOLS.items():
        if path is None:
            yield f"{name} is not installed: run build/testbed.sh"
    if os.geteuid() == 0:
        try:
            run_tool("unshare", "--mount", "--uts", "--net", "--ipc", "--pid", "--fork", "--mount-proc", "true")
        except RuntimeError as error:
            yield f"this machine makes no namespaces: {error}"


def _refuse(reason: str) -> None:
    """Skip; fail where all must be tested."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
