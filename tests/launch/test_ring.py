"""Which links a ring takes: the best that work, and a sentence with all that is known where there is none."""

from itertools import combinations, permutations

import pytest

from mlxserve.errors import UserError
from mlxserve.launch.hostfile import Host
from mlxserve.launch.interfaces import MEDIUM, Interface, Kind
from mlxserve.launch.ring import Machine, Reached, address_for_all, ring_of, shared_addresses, silent, without

TB, LAN, WIFI = Kind.THUNDERBOLT, Kind.ETHERNET, Kind.WIFI


def machine(name: str, *interfaces: tuple[Kind, str]) -> Machine:
    found = []
    for number, (kind, text) in enumerate(interfaces):
        address, _, prefix = text.partition("/")
        found.append(Interface(f"en{number}", MEDIUM[kind], kind, address, int(prefix)))
    return Machine(Host(name), tuple(found))


def all_of(machines: list[Machine], *but: str) -> dict[tuple[str, str], float | None]:
    """All that is on one network answers, without the addresses `but`; rank 0's also answer who shares a network."""
    found: dict[tuple[str, str], float | None] = {}
    for one, other in permutations(machines, 2):
        for near in one.interfaces:
            for far in other.interfaces:
                if near.network == far.network and not {near.address, far.address} & set(but):
                    found[near.address, far.address] = 0.4
                    found[one.name, far.address] = 0.4
    return found


def addresses(machines: list[Machine], reached: Reached) -> dict[str, str]:
    ring = ring_of(machines, reached)
    return dict(zip([each.name for each in ring.machines], ring.addresses, strict=True))


PAIR = [
    machine("a", (WIFI, "192.168.1.8/24"), (LAN, "192.168.2.8/24"), (TB, "169.254.7.8/16"), (TB, "192.168.5.1/30")),
    machine("b", (TB, "192.168.5.2/30"), (LAN, "192.168.2.9/24"), (TB, "169.254.7.9/16"), (WIFI, "192.168.1.9/24")),
]


@pytest.mark.parametrize(
    ("dead", "taken"),
    [
        ((), ("192.168.5.1", "192.168.5.2")),
        (("192.168.5.2",), ("169.254.7.8", "169.254.7.9")),
        (("192.168.5.2", "169.254.7.8"), ("192.168.2.8", "192.168.2.9")),
        (("192.168.5.2", "169.254.7.8", "192.168.2.8"), ("192.168.1.8", "192.168.1.9")),
    ],
)
def test_thunderbolt_comes_before_ethernet_before_wifi_if_it_works(
    dead: tuple[str, ...], taken: tuple[str, str]
) -> None:
    assert addresses(PAIR, all_of(PAIR, *dead)) == dict(zip("ab", taken, strict=True))
    assert len(silent(PAIR[0], PAIR[1], all_of(PAIR, *dead))) == len(dead)


def test_a_link_is_as_slow_as_its_slower_end() -> None:
    pair = [
        machine("a", (LAN, "10.0.0.1/24"), (LAN, "10.1.0.1/24")),
        machine("b", (WIFI, "10.0.0.2/24"), (LAN, "10.1.0.2/24")),
    ]
    assert addresses(pair, all_of(pair)) == {"a": "10.1.0.1", "b": "10.1.0.2"}
    assert ring_of(pair[:2], all_of(pair, "10.1.0.1")).links[0].medium == "Wi-Fi"


def test_a_link_must_work_both_ways() -> None:
    reached = {pair: 1.0 for pair in all_of(PAIR) if pair != ("192.168.5.2", "192.168.5.1")}
    assert addresses(PAIR, reached)["a"] == "169.254.7.8"


def test_a_machine_is_listed_with_the_address_that_the_rank_before_it_connects_to() -> None:
    cables = [
        machine("a", (TB, "192.168.5.1/30"), (TB, "192.168.7.1/30"), (WIFI, "10.0.0.1/24")),
        machine("b", (TB, "192.168.5.2/30"), (TB, "192.168.6.1/30"), (WIFI, "10.0.0.2/24")),
        machine("c", (TB, "192.168.6.2/30"), (TB, "192.168.7.2/30"), (WIFI, "10.0.0.3/24")),
    ]
    assert addresses(cables, all_of(cables)) == {"a": "192.168.7.1", "b": "192.168.5.2", "c": "192.168.6.2"}
    assert ring_of(cables, all_of(cables)).for_all == "10.0.0.1"


def test_rank_0_leads_over_the_ring_where_all_reach_it_there() -> None:
    switched = [
        machine(name, (LAN, f"10.0.0.{number}/24"), (WIFI, f"10.1.0.{number}/24")) for number, name in enumerate("abc")
    ]
    ring = ring_of(switched, all_of(switched))
    assert ring.for_all == ring.addresses[0] == "10.0.0.0"


def test_machines_without_a_network_in_common_cannot_follow_one() -> None:
    cables = [
        machine("a", (TB, "192.168.5.1/30"), (TB, "192.168.7.1/30")),
        machine("b", (TB, "192.168.5.2/30"), (TB, "192.168.6.1/30")),
        machine("c", (TB, "192.168.6.2/30"), (TB, "192.168.7.2/30")),
    ]
    with pytest.raises(UserError, match=r"no address of a is reached by b and c alike.*Wi-Fi will do"):
        ring_of(cables, all_of(cables))
    with pytest.raises(UserError, match="no address of a is reached"):
        address_for_all(cables, all_of(cables))


def test_the_order_is_changed_where_cables_ask_for_it() -> None:
    """Cables join a to c, c to b, b to d and d to a; Ethernet joins all."""
    joined = {"ac": 1, "cb": 2, "bd": 3, "da": 4}
    four = [
        machine(
            name,
            (LAN, f"10.0.0.{number}/24"),
            *((TB, f"192.168.{net}.{1 + pair.index(name)}/30") for pair, net in joined.items() if name in pair),
        )
        for number, name in enumerate("abcd", 1)
    ]
    ring = ring_of(four, all_of(four))
    assert [each.name for each in ring.machines] == ["a", "c", "b", "d"]
    assert {link.kind for link in ring.links} == {TB}
    unplugged = [each.address for one in four for each in one.interfaces if each.kind == TB]
    assert [each.name for each in ring_of(four, all_of(four, *unplugged)).machines] == ["a", "b", "c", "d"]


def test_an_address_that_two_machines_have_is_no_link() -> None:
    same = (LAN, "192.168.5.1/30")
    pair = [machine("a", same, (WIFI, "10.0.0.1/24")), machine("b", same, (WIFI, "10.0.0.2/24"))]
    shared = shared_addresses(pair)
    assert shared == {"192.168.5.1": ["a", "b"]}
    assert addresses(without(shared, pair), all_of(pair)) == {"a": "10.0.0.1", "b": "10.0.0.2"}


def test_two_names_of_one_machine_are_told() -> None:
    with pytest.raises(UserError, match="a and b are the same machine, but each machine runs one rank"):
        shared_addresses([machine("a", (LAN, "10.0.0.1/24")), machine("b", (LAN, "10.0.0.1/24"))])


def test_without_a_ring_all_is_told_that_each_has() -> None:
    three = [
        machine("a", (TB, "192.168.5.1/30")),
        machine("b", (TB, "192.168.5.2/30"), (LAN, "10.0.0.2/24")),
        machine("c"),
    ]
    with pytest.raises(UserError) as raised:
        ring_of(three, all_of(three, "192.168.5.2"))
    head, *lines = str(raised.value).splitlines()
    assert "do not reach each other in a ring" in head
    assert [line.strip() for line in lines] == [
        "a and b: 192.168.5.1 and 192.168.5.2 do not answer each other",
        "a and c: no network in common",
        "b and c: no network in common",
        "a has 192.168.5.1/30 (en0, Thunderbolt)",
        "b has 192.168.5.2/30 (en0, Thunderbolt), 10.0.0.2/24 (en1, Ethernet)",
        "c has no address that others could reach",
    ]


def test_many_machines_are_left_in_their_order() -> None:
    many = [machine(f"m{number}", (LAN, f"10.0.0.{number}/24")) for number in range(1, 17)]
    assert len(list(combinations(many, 2))) * 2 < len(all_of(many))
    assert [each.name for each in ring_of(many, all_of(many)).machines] == [each.name for each in many]
