"""Real connections between hosts: listeners at the very ports that the ranks will use, and who reaches them."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time

from mlxserve.launch.check.messages import Failure, Port, Reach

STRANGER = "STRANGER"
"""The name of the failure where something else than the peer's probe answers."""
_CONNECT_SECONDS = 5.0
_PINGS = 5


class Listeners:
    """Ports that are open, each greeting with `token` and the address it was opened as, until the process ends."""

    def __init__(self, token: str) -> None:
        self._token = token

    def open(self, address: str) -> Port:
        """Listen at an `ip:port`; with port 0 at any free one. The address returned has the port's number."""
        host, port = _split(address)
        try:
            # SO_REUSEADDR as MLX's ring and uvicorn have it: old connections do not make a port taken.
            listener = socket.create_server((host, port), family=_family(host, port))
        except OSError as error:
            return Port(address, failure_of(error))
        except OverflowError:
            return Port(address, Failure("EINVAL", 0, "there are no ports beyond 65535"))
        opened = f"{host}:{listener.getsockname()[1]}"
        threading.Thread(target=_accept, args=(listener, greeting(self._token, opened)), daemon=True).start()
        return Port(opened)


def greeting(token: str, address: str) -> bytes:
    """What the listener at `address` says first."""
    return f"mlxserve {token} {address}\n".encode()


def reach(token: str, address: str) -> Reach:
    """Connect to the listener that another host's probe has open at `address`.

    This end closes first, so that TIME_WAIT is here, and not on the port at which a rank will listen.
    """
    try:
        with socket.create_connection(_split(address), _CONNECT_SECONDS) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            expected = greeting(token, address)
            if connection.recv(len(expected), socket.MSG_WAITALL) != expected:
                return Reach(address, failure=Failure(STRANGER, 0, "something else answers"))
            return Reach(address, min(_ping(connection) for _ in range(_PINGS)))
    except OSError as error:
        return Reach(address, failure=failure_of(error))


def failure_of(error: OSError) -> Failure:
    """What went wrong, in terms that mean the same on every system."""
    number = error.errno or 0
    if isinstance(error, TimeoutError):
        return Failure("ETIMEDOUT", number or errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    return Failure(errno.errorcode.get(number, type(error).__name__), number, error.strerror or str(error))


def _accept(listener: socket.socket, greeting: bytes) -> None:
    while True:
        with contextlib.suppress(OSError):
            connection, _ = listener.accept()
            threading.Thread(target=_answer, args=(connection, greeting), daemon=True).start()


def _answer(connection: socket.socket, greeting: bytes) -> None:
    """Greet, then give back every byte."""
    with connection, contextlib.suppress(OSError):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(_CONNECT_SECONDS)
        connection.sendall(greeting)
        while data := connection.recv(1):
            connection.sendall(data)


def _ping(connection: socket.socket) -> float:
    """Milliseconds that a byte takes there and back."""
    start = time.perf_counter()
    connection.sendall(b".")
    if not connection.recv(1):
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    return (time.perf_counter() - start) * 1e3


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def _family(host: str, port: int) -> socket.AddressFamily:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
