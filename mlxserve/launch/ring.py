"""Which links a ring of machines takes, as plain functions of their interfaces and of what answered whom."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from ipaddress import ip_address
from itertools import combinations, permutations

import msgspec

from mlxserve.errors import UserError
from mlxserve.launch.hostfile import Host
from mlxserve.launch.interfaces import Interface, Kind
from mlxserve.launch.probing import Pair

MOST_ORDERED = 7
"""Above that many machines the orders are too many to look at all."""


class Machine(msgspec.Struct, frozen=True):
    """A host and its interfaces."""

    host: Host
    interfaces: tuple[Interface, ...]

    @property
    def name(self) -> str:
        """The name that ssh knows it by."""
        return self.host.ssh


class Link(msgspec.Struct, frozen=True):
    """Two interfaces that reach each other, and how long a ping took."""

    near: Interface
    far: Interface
    milliseconds: float | None = None

    @property
    def kind(self) -> Kind:
        """The slower of both ends."""
        return max(self.near.kind, self.far.kind)

    @property
    def medium(self) -> str:
        """What it is, as people call it."""
        slower = max(self.near, self.far, key=lambda end: end.kind)
        return slower.medium

    @property
    def backwards(self) -> Link:
        """The same from the other end."""
        return Link(self.far, self.near, self.milliseconds)


class Ring(msgspec.Struct, frozen=True):
    """Machines in rank order; `links[i]` leads from rank i to the next one; `for_all` is where all reach rank 0."""

    machines: tuple[Machine, ...]
    links: tuple[Link, ...]
    for_all: str

    @property
    def addresses(self) -> list[str]:
        """For each rank the address that MLX's ring connects to: it is the rank before that does."""
        return [self.links[rank - 1].far.address for rank in range(len(self.machines))]


Reached = Mapping[Pair, float | None]
"""What answered: from an address to an address, and from a host's name to one of rank 0's."""


def shared_addresses(machines: Sequence[Machine]) -> dict[str, list[str]]:
    """The names of the machines that have the same address, by address: whoever asks for one reaches itself.

    Raises UserError where two names stand for one machine.
    """
    for one, other in combinations(machines, 2):
        if one.interfaces and one.interfaces == other.interfaces:
            raise UserError(f"{one.name} and {other.name} are the same machine, but each machine runs one rank")
    names: dict[str, list[str]] = {}
    for machine in machines:
        for each in machine.interfaces:
            names.setdefault(each.address, []).append(machine.name)
    return {address: owners for address, owners in names.items() if len(owners) > 1}


def without(addresses: Container[str], machines: Sequence[Machine]) -> list[Machine]:
    """The machines, with no regard to interfaces with these addresses."""
    return [
        Machine(machine.host, tuple(each for each in machine.interfaces if each.address not in addresses))
        for machine in machines
    ]


def candidates(one: Machine, other: Machine) -> Iterator[Link]:
    """The pairs of interfaces that are on one network."""
    for near in one.interfaces:
        for far in other.interfaces:
            if ip_address(near.address) in far.network and ip_address(far.address) in near.network:
                yield Link(near, far)


def link_between(one: Machine, other: Machine, reached: Reached) -> Link | None:
    """The best link on which both reach each other; a fixed address before one that was picked by chance."""
    links = [
        Link(link.near, link.far, reached[there])
        for link in candidates(one, other)
        if (there := (link.near.address, link.far.address)) in reached and there[::-1] in reached
    ]
    return min(links, key=lambda link: (link.kind, link.near.is_link_local or link.far.is_link_local), default=None)


def ring_of(machines: Sequence[Machine], reached: Reached) -> Ring:
    """The ring whose slowest links are the best. The first machine is rank 0, and the order is as given unless another
    has better links. Raises UserError, which tells what each machine has, where there is no ring.
    """
    links: dict[tuple[int, int], Link] = {}
    for (i, one), (j, other) in combinations(enumerate(machines), 2):
        if link := link_between(one, other, reached):
            links[i, j], links[j, i] = link, link.backwards
    orders = permutations(range(1, len(machines))) if len(machines) <= MOST_ORDERED else [range(1, len(machines))]
    rings = [hops for hops in (_hops((0, *order)) for order in orders) if links.keys() >= set(hops)]
    if not rings:
        raise UserError(_no_ring(machines, links, reached))
    hops = min(rings, key=lambda hops: sorted((links[hop].kind for hop in hops), reverse=True))
    ranks, taken = tuple(machines[i] for i, _ in hops), tuple(links[hop] for hop in hops)
    return Ring(ranks, taken, address_for_all(ranks, reached, taken[-1].far))


def _hops(order: tuple[int, ...]) -> list[tuple[int, int]]:
    return list(zip(order, (*order[1:], order[0]), strict=True))


def address_for_all(ranks: Sequence[Machine], reached: Reached, preferred: Interface | None = None) -> str:
    """The address of rank 0 that all others reach. Raises UserError where there is none."""
    first, *others = ranks
    for choice in sorted(first.interfaces, key=lambda each: (each != preferred, each.kind, each.is_link_local)):
        if all((other.name, choice.address) in reached for other in others):
            return choice.address
    raise UserError(
        f"no address of {first.name} is reached by {' and '.join(other.name for other in others)} alike, but rank 0 "
        "leads all others: join them to one network as well (Wi-Fi will do), or name another host first"
    )


def silent(one: Machine, other: Machine, reached: Reached) -> list[Link]:
    """The links that are there by their addresses, but do not work."""
    tried = [(link, (link.near.address, link.far.address)) for link in candidates(one, other)]
    return [link for link, there in tried if there not in reached or there[::-1] not in reached]


def _no_ring(machines: Sequence[Machine], links: Mapping[tuple[int, int], Link], reached: Reached) -> str:
    lines = []
    for (i, one), (j, other) in combinations(enumerate(machines), 2):
        if (i, j) not in links:
            tried = [f"{link.near.address} and {link.far.address}" for link in silent(one, other, reached)]
            why = f"{', '.join(tried)} do not answer each other" if tried else "no network in common"
            lines.append(f"{one.name} and {other.name}: {why}")
    for machine in machines:
        have = ", ".join(map(str, machine.interfaces)) or "no address that others could reach"
        lines.append(f"{machine.name} has {have}")
    return "\n  ".join(["these hosts do not reach each other in a ring: check cables, addresses and firewalls", *lines])
