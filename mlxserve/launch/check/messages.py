"""What the check asks the probe on a host, and what that answers: one line of JSON each."""

from __future__ import annotations

import msgspec


class Question(msgspec.Struct, frozen=True):
    """The check's first line: what a host is to look at."""

    token: str = ""
    """What the listeners of this check greet with, so that nothing else is taken for them."""
    addresses: tuple[str, ...] = ()
    """Those that the hosts file gives the host."""
    listen: tuple[str, ...] = ()
    """The `ip:port` at which its rank will listen, and at which the probe does meanwhile."""
    control: str = ""
    """The ip at which the probe listens at one more port, any free one, as rank 0 does for its control links."""
    serve: str = ""
    """The `host:port` that rank 0 serves on."""
    model: str = ""
    rdma: bool = False


class Connect(msgspec.Struct, frozen=True):
    """The check's second line: where the probe is to connect to."""

    addresses: tuple[str, ...] = ()


class Failure(msgspec.Struct, frozen=True):
    """What the system refused, by its name too: numbers differ from system to system."""

    name: str
    number: int
    text: str


class System(msgspec.Struct, frozen=True):
    """The operating system: "macOS", "26.2", "25C56"; or "Linux", "debian 12", the kernel's version."""

    kind: str
    version: str
    build: str
    machine: str
    minimum: str = ""
    """The oldest version that this build of mlxserve runs on."""


class Disk(msgspec.Struct, frozen=True):
    """The place for what is downloaded or made."""

    folder: str
    free: int
    """Bytes."""
    writable: bool = True


class Port(msgspec.Struct, frozen=True):
    """An `ip:port`, and why nothing can listen there."""

    address: str
    failure: Failure | None = None


class Model(msgspec.Struct, frozen=True):
    """What a host has of the model. `problem` is why it cannot be used."""

    kind: str
    """"file", "folder" or "hub"."""
    place: str
    problem: str = ""
    digest: str = ""
    """Of config.json, or of a file's head."""
    weight_bytes: int = 0
    missing: tuple[str, ...] = ()
    """Weight files that the model's index names and that are not there."""
    offline: bool = False
    has_token: bool = False


class Facts(msgspec.Struct, frozen=True, tag="facts"):
    """The probe's first line."""

    build: str
    system: System
    memory: int
    free_memory: int
    disks: tuple[Disk, ...] = ()
    interfaces: tuple[str, ...] = ()
    """Its IPv4 addresses, as "192.168.5.1 (en5)"."""
    strange_addresses: tuple[str, ...] = ()
    """Those of Question.addresses that are on no interface."""
    listening: tuple[Port, ...] = ()
    control: Port | None = None
    serve: Port | None = None
    harmful: str = ""
    """The value of MLX_METAL_FAST_SYNCH in the host's environment."""
    rdma: tuple[str, ...] | None = None
    """Its RDMA devices; None where they cannot be listed."""
    sleep_minutes: int = 0
    """Idle minutes after which it sleeps; 0: never."""
    model: Model | None = None


class Missing(msgspec.Struct, frozen=True, tag="missing"):
    """What bash answers where there is no mlxserve."""

    system: str
    version: str
    machine: str
    free_kilobytes: int


class Reach(msgspec.Struct, frozen=True):
    """A connection that was tried: how long a byte takes there and back, or why it failed."""

    address: str
    milliseconds: float = 0.0
    failure: Failure | None = None


class Reached(msgspec.Struct, frozen=True, tag="reached"):
    """The probe's second line."""

    clock: float
    """Its time, in seconds since 1970, at the moment when it was told where to connect to."""
    peers: tuple[Reach, ...] = ()


Answer = Facts | Missing | Reached
