"""The hosts file: MLX's format, read with MLX's parser, then checked."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterator

import msgspec
from mlx._distributed_utils.common import Hostfile as MlxHostfile

from mlxserve.errors import UserError
from mlxserve.launch.request import BACKENDS

THIS_MACHINE = "127.0.0.1"
Rdma = str | list[str] | None


class Host(msgspec.Struct, frozen=True):
    """A machine: the name that ssh knows it by, its addresses towards the other ranks, its RDMA device to each rank."""

    ssh: str
    ips: tuple[str, ...] = ()
    rdma: tuple[Rdma, ...] = ()


class Hostfile(msgspec.Struct, frozen=True):
    """The hosts, one rank each, in rank order; `envs` as `NAME=value`."""

    hosts: tuple[Host, ...]
    backend: str = "ring"
    envs: tuple[str, ...] = ()


def ranks_here(count: int, backend: str = "") -> Hostfile:
    """`count` ranks on this machine."""
    if backend.startswith("jaccl"):
        raise UserError(f"--backend {backend} needs the RDMA devices of a hosts file: use --hostfile instead of -n")
    return Hostfile(tuple(Host(THIS_MACHINE, (THIS_MACHINE,)) for _ in range(count)), backend or "ring")


def read(path: str, backend: str = "") -> Hostfile:
    """Read the hosts file at `path`; `backend` overrides the file's. Raises UserError, naming what to mend."""
    parsed = _parsed(path)
    try:
        hosts = tuple(msgspec.convert(_fields(host), Host) for host in parsed.hosts)
        hostfile = Hostfile(hosts, backend or parsed.backend or "ring", msgspec.convert(parsed.envs, tuple[str, ...]))
    except msgspec.ValidationError as error:
        raise UserError(f"hosts file {path} does not fit MLX's format: {error}") from error
    for problem in _problems(hostfile):
        raise UserError(f"hosts file {path}: {problem}")
    return hostfile


def _parsed(path: str) -> MlxHostfile:
    try:
        return MlxHostfile.from_file(path)
    except OSError as error:
        raise UserError(f"hosts file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        match error.__cause__:
            case KeyError() as missing:
                raise UserError(f"hosts file {path} does not fit MLX's format: {missing} is missing") from error
            case TypeError() | AttributeError():
                raise UserError(
                    f"hosts file {path} does not fit MLX's format: each host must be like "
                    '{"ssh": "mini-1", "ips": ["192.168.5.1"]}'
                ) from error
        raise UserError(str(error)) from error


def _fields(host: object) -> dict[str, object]:
    return {"ssh": host.ssh_hostname, "ips": host.ips, "rdma": host.rdma}  # type: ignore[attr-defined]


def _problems(hostfile: Hostfile) -> Iterator[str]:
    if not hostfile.hosts:
        yield "it names no host"
    if hostfile.backend not in BACKENDS:
        yield f"its backend is {hostfile.backend!r}, but must be one of {', '.join(BACKENDS)}"
    for variable in hostfile.envs:
        name = variable.partition("=")[0]
        if not (name.isidentifier() and name.isascii() and "=" in variable):
            yield f"{variable!r} in its envs is not of the form NAME=value"
    for host in hostfile.hosts:
        yield from _host_problems(host, hostfile.backend)
    yield from _repeated(hostfile.hosts)
    if hostfile.backend in ("jaccl", "jaccl-ring"):
        yield from _rdma_problems(hostfile)


def _host_problems(host: Host, backend: str) -> Iterator[str]:
    if not host.ssh or host.ssh.startswith("-") or any(letter.isspace() for letter in host.ssh):
        yield f"{host.ssh!r} is not a name that ssh can connect to"
    if backend == "ring" and not host.ips:
        yield f"{host.ssh} has no ips, which the ring backend needs"
    for ip in host.ips:
        try:
            ipaddress.IPv4Address(ip)
        except ValueError:
            yield f"{ip!r}, among the ips of {host.ssh}, is not an IPv4 address"


def _repeated(hosts: tuple[Host, ...]) -> Iterator[str]:
    names = Counter(host.ssh for host in hosts)
    ips = Counter(ip for host in hosts for ip in set(host.ips))
    for name, count in (names | ips).items():
        if count > 1 and not is_loopback(name):
            yield f"{name} is named for {count} hosts, but each machine runs one rank"


def _rdma_problems(hostfile: Hostfile) -> Iterator[str]:
    hosts = hostfile.hosts
    if not hosts[0].ips:
        yield f"{hosts[0].ssh} has no ips, but rank 0 needs one that all other ranks reach"
    for rank, host in enumerate(hosts):
        if len(host.rdma) != len(hosts):
            yield f"{host.ssh} names {len(host.rdma)} RDMA devices, but must name one for each host ({len(hosts)})"
        elif host.rdma[rank] is not None:
            yield f"the RDMA device of {host.ssh} to itself must be null"
        else:
            for peer in _peers(rank, len(hosts), hostfile.backend):
                if host.rdma[peer] is None:
                    yield f"no RDMA device is listed for {host.ssh} to {hosts[peer].ssh}"


def _peers(rank: int, ranks: int, backend: str) -> list[int]:
    near = [(rank - 1) % ranks, (rank + 1) % ranks] if backend == "jaccl-ring" else range(ranks)
    return [peer for peer in near if peer != rank]


def require_private(hostfile: Hostfile) -> None:
    """Raise UserError where ranks would listen at an address that the whole internet may reach."""
    for host in hostfile.hosts:
        for ip in host.ips:
            if ipaddress.IPv4Address(ip).is_global:
                raise UserError(
                    f"{ip}, an address of {host.ssh}, is public, but MLX's ports between ranks ask nobody for a key: "
                    "whoever reaches them can read and change what is computed. Name addresses of a private network "
                    "(a Thunderbolt cable, a LAN, a VPN), or allow these with --public-addresses"
                )


def require_fallback(hostfile: Hostfile) -> None:
    """Raise UserError where the ranks could not fall back to a ring."""
    if hostfile.backend == "mpi":
        raise UserError("--fallback ring is for jaccl, but the backend is mpi: leave it out")
    for host in hostfile.hosts:
        if not host.ips:
            raise UserError(f"{host.ssh} has no ips, but --fallback ring needs one that the rank before it reaches")


def is_loopback(name: str) -> bool:
    """Whether `name` means the machine it is used on, whichever that is."""
    return name == "localhost" or (name.startswith("127.") and name.count(".") == 3)
