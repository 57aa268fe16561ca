"""How the control links come about: rank 0 makes the key, a collective shares it, the workers connect."""

from __future__ import annotations

import secrets
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener

import mlx.core as mx

from mlxserve.config import Place
from mlxserve.errors import RankLost
from mlxserve.pipeline.addresses import own_address
from mlxserve.pipeline.group import share_bytes
from mlxserve.pipeline.link import Hello, Leave, Link, decode

_INVITATION_BYTES = 512
_LEAVE_SECONDS = 2.0


class Worker(Link):
    """Rank 0's end of a link, and who is at the other."""

    def __init__(self, connection: Connection) -> None:
        hello = decode(connection.recv_bytes())
        if not isinstance(hello, Hello):
            raise RankLost(f"a worker began with {hello}")
        super().__init__(connection, f"rank {hello.rank} ({hello.host})")
        self.hello = hello


def invite(group: mx.distributed.Group, place: Place) -> list[Worker]:
    """Rank 0's part: open the links to all workers, in rank order."""
    key = secrets.token_bytes(32)
    with Listener((own_address(place), 0), backlog=place.world_size, authkey=key) as listener:
        host, port = listener.address
        share_bytes(group, f"{host} {port} {key.hex()}".encode(), _INVITATION_BYTES)
        workers: list[Worker] = []
        while len(workers) < place.world_size - 1:
            try:
                workers.append(Worker(listener.accept()))
            except (AuthenticationError, OSError, EOFError):
                continue  # somebody else knocked
    return sorted(workers, key=lambda worker: worker.hello.rank)


def accept_invitation(group: mx.distributed.Group, hello: Hello) -> Link:
    """A worker's part: connect to rank 0 and say who this is. Raises RankLost if that fails."""
    host, port, key = share_bytes(group, None, _INVITATION_BYTES).decode().split()
    try:
        link = Link(Client((host, int(port)), authkey=bytes.fromhex(key)), "rank 0")
    except (OSError, EOFError, AuthenticationError) as error:
        raise RankLost(f"rank 0 does not answer at {host}:{port}: {error}") from error
    link.send(hello)
    return link


def dismiss(workers: list[Worker], leave: Leave) -> None:
    """Tell all workers to end, and wait a moment until they have closed their links."""
    for worker in workers:
        try:
            worker.send(leave)
        except RankLost:
            continue
    end = time.monotonic() + _LEAVE_SECONDS
    for worker in workers:
        worker.ended.wait(max(0.0, end - time.monotonic()))
