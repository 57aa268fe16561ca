"""Free ports for ranks on this machine, claimed so that two launches at the same time do not pick the same."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from types import TracebackType

from mlxserve.errors import UserError
from mlxserve.launch.hostfile import THIS_MACHINE
from mlxserve.launch.request import DEFAULT_PORT


class Ports:
    """`count` TCP ports in a row that nothing uses, from `first` on, for as long as the object is open.

    A ring's port is free for others until its rank listens, and again while its engine restarts. So each port is
    claimed by binding the UDP port of the same number, which only other launches try to do.
    """

    def __init__(self, count: int, starting_port: int = 0) -> None:
        self._claims = ExitStack()
        self.first = self._claim(count, starting_port)

    def __enter__(self) -> Ports:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._claims.close()

    def _claim(self, count: int, starting_port: int) -> int:
        if starting_port:
            if starting_port + count > 65536 or not self._claimed(range(starting_port, starting_port + count), True):
                raise UserError(f"not all of the {count} ports from --starting-port {starting_port} up are free")
            return starting_port
        for first in range(DEFAULT_PORT, 65536 - count, count):
            if self._claimed(range(first, first + count)):
                return first
        raise UserError(f"no {count} free ports in a row from {DEFAULT_PORT} up")

    def _claimed(self, ports: range, reuse: bool = False) -> bool:
        """Claim `ports`. Without `reuse` a port on which connections of another ring remain counts as taken."""
        with ExitStack() as attempt:
            try:
                for port in ports:
                    _bind(attempt, socket.SOCK_DGRAM, port)
                with ExitStack() as test:
                    for port in ports:
                        _bind(test, socket.SOCK_STREAM, port, reuse)
            except OSError:
                return False
            self._claims = attempt.pop_all()
            return True


def _bind(stack: ExitStack, kind: socket.SocketKind, port: int, reuse: bool = False) -> None:
    bound = stack.enter_context(socket.socket(socket.AF_INET, kind))
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(reuse))
    bound.bind((THIS_MACHINE, port))
