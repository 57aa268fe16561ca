"""What a user asks `launch` or `check` to start."""

from __future__ import annotations

import msgspec

BACKENDS = ("ring", "jaccl", "jaccl-ring", "mpi")
DEFAULT_PORT = 32323
"""The first port of a ring, or the coordinator's of jaccl: the same as `mlx.launch`'s."""


class LaunchRequest(msgspec.Struct, frozen=True):
    """The hosts of `hostfile`, or `ranks` ranks on this machine, each to run `program` with `flags`."""

    hostfile: str = ""
    ranks: int = 0
    backend: str = ""
    """Empty: as the hosts file says, else ring."""
    starting_port: int = 0
    """0: DEFAULT_PORT, or with `ranks` the first free ports from there on."""
    connections_per_ip: int = 1
    program: str = ""
    """Empty: the program that runs now."""
    deploy: bool = False
    """Whether hosts that have another program, or none, are given this one first."""
    api_keys: tuple[str, ...] = ()
    """For rank 0 alone, which it gets where no list of processes shows them."""
    flags: tuple[str, ...] = ()
    """What follows the subcommand, passed on unchanged, but for `api_keys`."""
