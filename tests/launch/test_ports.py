"""Ports for ranks on this machine."""

import socket

import pytest

from mlxserve.errors import UserError
from mlxserve.launch.ports import Ports


def test_two_launches_at_a_time_get_different_ports() -> None:
    with Ports(2) as one, Ports(3) as other:
        assert not set(range(one.first, one.first + 2)) & set(range(other.first, other.first + 3))


def test_a_port_in_use_is_passed_over() -> None:
    with Ports(2) as free:
        first = free.first
    with socket.create_server(("127.0.0.1", first + 1)), Ports(2) as ports:
        assert ports.first > first + 1


def test_ports_that_were_asked_for_are_taken_or_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        with pytest.raises(UserError, match=f"the 1 ports from --starting-port {taken} up"):
            Ports(1, taken)
    with Ports(1, taken) as ports:
        assert ports.first == taken
