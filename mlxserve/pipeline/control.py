"""How the control links come about: rank 0 makes the key, a collective shares it, the workers connect."""

from __future__ import annotations

import secrets
import time
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, Listener

import mlx.core as mx

from mlxserve.config import Place
from mlxserve.errors import DamagedData, RankLost
from mlxserve.models.supply.line import Line
from mlxserve.pipeline.addresses import own_address
from mlxserve.pipeline.group import share_bytes
from mlxserve.pipeline.link import ForWeights, Hello, Leave, Link, Message, decode, encode

_INVITATION_BYTES = 512
_LEAVE_SECONDS = 2.0


class Worker(Link):
    """Rank 0's end of a link, and who is at the other."""

    def __init__(self, connection: Connection, hello: Hello) -> None:
        super().__init__(connection, f"rank {hello.rank} ({hello.host})")
        self.hello = hello


def invite(group: mx.distributed.Group, place: Place) -> tuple[list[Worker], list[Line]]:
    """Rank 0's part: open the links to all workers, in rank order, and the lines for weights.

    Raises RankLost where a worker says something else than is said first.
    """
    key = secrets.token_bytes(32)
    with Listener((own_address(place), 0), backlog=2 * place.world_size, authkey=key) as listener:
        host, port = listener.address
        share_bytes(group, f"{host} {port} {key.hex()}".encode(), _INVITATION_BYTES)
        workers: list[Worker] = []
        lines: list[Line] = []
        while min(len(workers), len(lines)) < place.world_size - 1:
            try:
                connection = listener.accept()
                first = decode(connection.recv_bytes())
            except (AuthenticationError, OSError, EOFError):
                continue  # somebody else knocked
            match first:
                case Hello():
                    workers.append(Worker(connection, first))
                case ForWeights():
                    lines.append(Line(connection))
                case _:
                    raise RankLost(f"a worker began with {first}")
    return sorted(workers, key=lambda worker: worker.hello.rank), lines


def accept_invitation(group: mx.distributed.Group, hello: Hello) -> tuple[Link, Line]:
    """A worker's part: connect to rank 0 and say who this is. Returns the link, and the line for weights.

    Raises RankLost if that fails, DamagedData if there is no sense in what rank 0 shares.
    """
    try:
        host, port, key = share_bytes(group, None, _INVITATION_BYTES).decode().split()
        address, authkey = (host, int(port)), bytes.fromhex(key)
    except ValueError as error:
        told = f"what rank {hello.rank} received of rank 0's address differs from what was sent"
        raise DamagedData(f"{told}: {error}") from error
    try:
        linked, lined = (_opened(address, authkey, first) for first in (hello, ForWeights()))
    except (OSError, EOFError, AuthenticationError) as error:
        raise RankLost(f"rank 0 does not answer at {host}:{port}: {error}") from error
    return Link(linked, "rank 0"), Line(lined)


def _opened(address: tuple[str, int], key: bytes, first: Message) -> Connection:
    connection = Client(address, authkey=key)
    connection.send_bytes(encode(first))
    return connection


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
