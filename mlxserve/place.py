"""Where this process stands among its peers: read from the variables that MLX itself reads.

The variables are those of MLX's distributed backends (ring: MLX_RANK and MLX_HOSTFILE; jaccl: MLX_RANK, MLX_IBV_DEVICES
and MLX_JACCL_COORDINATOR; mpi: what mpirun sets), as `mlx.launch`, `mlxserve launch` or a user set them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from mlxserve.config import Backend, Place
from mlxserve.errors import UserError

Listed = TypeVar("Listed")

CONTROL = "MLXSERVE_CONTROL"
"""Set by hosts files in which not all ranks reach rank 0's address in the ring, as `mlxserve hosts` writes them."""
PROGRESS = "MLXSERVE_PROGRESS"
"""Set by `mlxserve launch` on a terminal for rank 0, whose lines of progress it draws as bars."""
FALLBACK = "MLXSERVE_FALLBACK_HOSTFILE"
"""Set by `mlxserve launch --fallback ring` beside jaccl's variables: a file such as MLX_HOSTFILE names."""
JACCL_VARIABLES = (
    *("MLX_JACCL_COORDINATOR", "MLX_IBV_DEVICES", "MLX_JACCL_RING"),
    *("JACCL_COORDINATOR", "JACCL_IBV_DEVICES", "JACCL_RING"),
)
MPI_VARIABLES = (("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE"))


def place_from(environ: Mapping[str, str], backend: Backend) -> Place:
    """This process's place; alone where no launcher set one.

    Raises UserError where the variables contradict each other, or `backend` is not the one they were set for.
    """
    found = _ring(environ) or _jaccl(environ) or _mpi(environ) or _alone(environ)
    if found.world_size > 1 and backend not in ("any", found.backend):
        raise UserError(
            f"--backend {backend} was asked for, but the ranks were started for {found.backend}: "
            f"start them with --backend {backend}"
        )
    return msgspec.structs.replace(found, control=environ.get(CONTROL, ""), tells_progress=PROGRESS in environ)


def over_ring(place: Place) -> Place:
    """The same rank in the ring that it may fall back to."""
    ring = place.fallback
    return msgspec.structs.replace(place, backend="ring", addresses=tuple(each[0] for each in ring), ring=ring)


def _ring(environ: Mapping[str, str]) -> Place | None:
    if not environ.get("MLX_HOSTFILE"):
        return None
    ring = _ring_addresses(environ, "MLX_HOSTFILE")
    return _within(Place(_rank(environ), max(1, len(ring)), "ring", tuple(each[0] for each in ring), ring=ring))


def _ring_addresses(environ: Mapping[str, str], name: str) -> tuple[tuple[str, ...], ...]:
    """The addresses of each rank in the file that the variable `name` names; none where it is not set."""
    path = environ.get(name)
    ranks = _listed(path, name, list[list[str]]) if path else []
    if not all(addresses and all(":" in address for address in addresses) for addresses in ranks):
        raise UserError(f"{name} ({path}) must hold a list of ip:port addresses for each rank")
    return tuple(tuple(addresses) for addresses in ranks)


def _jaccl(environ: Mapping[str, str]) -> Place | None:
    coordinator = environ.get("MLX_JACCL_COORDINATOR") or environ.get("JACCL_COORDINATOR")
    if not coordinator:
        return None
    path = environ.get("MLX_IBV_DEVICES") or environ.get("JACCL_IBV_DEVICES")
    if not path:
        raise UserError("MLX_JACCL_COORDINATOR is set, but MLX_IBV_DEVICES, the file of RDMA devices, is not")
    ranks = _listed(path, "MLX_IBV_DEVICES", list[list[str | list[str] | None]])
    ring = _ring_addresses(environ, FALLBACK)
    if ring and len(ring) != len(ranks):
        raise UserError(f"{FALLBACK} names {len(ring)} ranks, but MLX_IBV_DEVICES {len(ranks)}")
    return _within(Place(_rank(environ), max(1, len(ranks)), "jaccl", (coordinator,), fallback=ring))


def _mpi(environ: Mapping[str, str]) -> Place | None:
    for rank, size in MPI_VARIABLES:
        if environ.get(size, "1") != "1":
            return _within(Place(_number(environ, rank), _number(environ, size), "mpi"))
    return None


def _alone(environ: Mapping[str, str]) -> Place:
    if _number(environ, "MLX_WORLD_SIZE", 1) > 1:
        raise UserError("the ranks were started for nccl, which mlxserve does not use: start them with --backend ring")
    if rank := _rank(environ):
        raise UserError(f"MLX_RANK is {rank}, but MLX_HOSTFILE, which names the other ranks, is not set")
    return Place()


def _within(place: Place) -> Place:
    if place.rank >= place.world_size:
        raise UserError(f"this is rank {place.rank}, but there are only {place.world_size} ranks, counted from 0")
    return place


def _rank(environ: Mapping[str, str]) -> int:
    return _number(environ, "MLX_RANK", 0)


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environ.get(name, "") or ("" if default is None else str(default))
    if not text.isdecimal():
        raise UserError(f"{name} must be a whole number, not {text!r}")
    return int(text)


def _listed(path: str, name: str, kind: type[list[Listed]]) -> list[Listed]:
    """What the JSON file `path` lists; nothing where it is empty, as `mlx.launch -n 1` leaves it."""
    try:
        content = Path(path).read_bytes().strip()
        return msgspec.json.decode(content, type=kind) if content else []
    except OSError as error:
        raise UserError(f"{name} names {path}, which cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise UserError(f"{name} names {path}, which is not the list it should be: {error}") from error
