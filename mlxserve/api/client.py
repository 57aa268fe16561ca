"""Who asks, as far as it can be told: whom the queue is fair to."""

from __future__ import annotations

import ipaddress

from starlette.requests import Request
from starlette.types import Scope

HOST_BITS_V6 = 64
"""Of an IPv6 address, those that every machine chooses for itself, and changes as it likes."""
LONGEST = 64
"""Characters of an address that is none: a proxy names what it wants."""


def set_key(scope: Scope, digest: bytes) -> None:
    """Note the digest of the key that a request was let in by."""
    scope.setdefault("state", {})["client"] = f"key {digest.hex()[:16]}"


def client_of(request: Request) -> str:
    """The holder of the request's key; where none is asked for, the machine that it comes from, or its network.

    Behind a proxy on this machine that is what its X-Forwarded-For says. Keys that nobody checks tell nobody apart.
    """
    keyed: str | None = request.scope.get("state", {}).get("client")
    return keyed or (network(request.client.host) if request.client else "")


def network(host: str) -> str:
    """The IPv4 address, or the network of the IPv6 address, that `host` is."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:LONGEST]
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return f"{ipaddress.IPv6Address(int(address) >> HOST_BITS_V6 << HOST_BITS_V6)}/{HOST_BITS_V6}"
