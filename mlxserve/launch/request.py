"""What a user asks `launch` or `check` to start."""

from __future__ import annotations

from typing import Literal

import msgspec

BACKENDS = ("ring", "jaccl", "jaccl-ring", "mpi")
DEFAULT_PORT = 32323
"""The first port of a ring, or the coordinator's of jaccl: the same as `mlx.launch`'s."""


ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that stand for all of a machine's, and the one by which it reaches itself."""


class Http(msgspec.Struct, frozen=True):
    """Where rank 0 is going to serve."""

    host: str = "127.0.0.1"
    port: int = 0
    has_tls: bool = False

    @property
    def address(self) -> str:
        """`host:port` by which its own machine reaches it."""
        return f"{ANY.get(self.host, self.host)}:{self.port}"

    @property
    def url(self) -> str:
        """How a person on that machine reaches it."""
        host = "localhost" if self.host in ANY else self.host
        return f"{'https' if self.has_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"


class LaunchRequest(msgspec.Struct, frozen=True):
    """The hosts of `hostfile`, or `ranks` ranks on this machine, each to run `program` with `flags`."""

    hostfile: str = ""
    ranks: int = 0
    backend: str = ""
    """Empty: as the hosts file says, else ring."""
    starting_port: int = 0
    """0: DEFAULT_PORT, or with `ranks` the first free ports from there on."""
    connections_per_ip: int = 1
    has_fallback: bool = False
    """Whether ranks of jaccl are also told a ring, to fall back to."""
    program: str = ""
    """Empty: the program that runs now."""
    drain_seconds: float = 0.0
    """How long the ranks may go on after SIGTERM, to finish what they have begun."""
    min_ranks: int = 0
    """How many ranks go on when others are lost; 0: all are needed."""
    public_addresses: bool = False
    """Whether ranks may listen at addresses that the internet reaches."""
    deploy: bool = False
    """Whether hosts that have another program, or none, are given this one first."""
    api_keys: tuple[str, ...] = ()
    """For rank 0 alone, which it gets where no list of processes shows them."""
    detached: Literal["", "detach", "keep", "stop"] = ""
    """What is done with ranks that go on by themselves: started, started again and again, or ended. Empty: none do."""
    http: Http = Http()
    flags: tuple[str, ...] = ()
    """What follows the subcommand, passed on unchanged, but for `api_keys`."""
