"""What is found between the hosts: addresses, ports, who reaches whom, clocks."""

from __future__ import annotations

from collections.abc import Iterator

from mlxserve.launch.check.finding import Finding
from mlxserve.launch.check.listeners import STRANGER
from mlxserve.launch.check.messages import Facts, Failure, Port, Reach
from mlxserve.launch.check.visit import Target, Visit

_CLOCK_SECONDS = 2.0
_UNREACHABLE = ("EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN", "ENETDOWN")


def addresses(visit: Visit, facts: Facts) -> Iterator[Finding]:
    """Whether the host has the addresses that the hosts file gives it."""
    has = f"; it has {', '.join(facts.interfaces)}" if facts.interfaces else ""
    for ip in visit.question.addresses:
        if ip in facts.strange_addresses:
            yield Finding(
                visit.label, "address", "error", f"{ip} is on no interface{has}",
                "mend its ips in the hosts file, or give the interface that address (static, a /30 for each cable)",
            )  # fmt: skip
        else:
            interface = next((there for there in facts.interfaces if there.startswith(f"{ip} ")), ip)
            yield Finding(visit.label, "address", "ok", interface)


def ports(visit: Visit, facts: Facts) -> Iterator[Finding]:
    """Whether what its rank will listen on is free."""
    tried = [(port, "--starting-port") for port in facts.listening]
    if facts.serve:
        tried.append((facts.serve, "--port"))
    free = [port.address for port, _ in tried if not port.failure]
    if free:
        yield Finding(visit.label, "ports", "ok", f"{', '.join(free)} free")
    for port, flag in tried:
        if port.failure and port.address.rpartition(":")[0] not in facts.strange_addresses:
            yield _taken(visit.label, port, port.failure, flag)


def reachability(visit: Visit) -> Iterator[Finding]:
    """Whether it gets to each port that its rank will connect to."""
    kind = visit.facts.system.kind if visit.facts else ""
    for target, reach in zip(visit.targets, visit.reached, strict=False):
        yield _reached(visit.label, target, reach, kind)


def clock(visit: Visit) -> Iterator[Finding]:
    """Whether its clock agrees with this machine's, which makes logs comparable."""
    if visit.clock is None or visit.is_here:
        return
    ahead = visit.clock
    if abs(ahead) > _CLOCK_SECONDS:
        way = "ahead of" if ahead > 0 else "behind"
        message = f"{abs(ahead):.1f} s {way} this machine's"
        yield Finding(visit.label, "clock", "warning", message, "let both set their time by network (Date & Time)")
    else:
        yield Finding(visit.label, "clock", "ok", "agrees with this machine's")


def _taken(label: str, port: Port, failure: Failure, flag: str) -> Finding:
    number = port.address.rpartition(":")[2]
    match failure.name:
        case "EADDRINUSE":
            message, advice = f"{port.address} is taken", f"end what listens there (`lsof -nP -iTCP:{number}` shows it)"
            return Finding(label, "ports", "error", message, f"{advice}, or choose another with {flag}")
        case "EADDRNOTAVAIL" | "gaierror":
            message = f"cannot listen at {port.address}: it has no such address"
            return Finding(label, "ports", "error", message, "name one of its own with --host, or 0.0.0.0 for all")
        case _:
            message = f"cannot listen at {port.address}: {failure.text}"
            return Finding(label, "ports", "error", message, f"choose another with {flag}")


def _reached(label: str, target: Target, reach: Reach, kind: str) -> Finding:
    where = f"{target.peer} at {target.address} ({target.purpose})"
    failure = reach.failure
    if failure is None:
        return Finding(label, "reach", "ok", f"{where}: {reach.milliseconds:.2f} ms")
    number = f" (errno {failure.number})" if failure.number else ""
    return Finding(label, "reach", "error", f"{where}: {failure.text}{number}", _way_through(failure, target, kind))


def _way_through(failure: Failure, target: Target, kind: str) -> str:
    """What to do about a peer that is not reached although it listens."""
    ip = target.address.rpartition(":")[0]
    if failure.name == STRANGER:
        return f"another machine has {ip} too: give each host addresses of its own"
    if failure.name in _UNREACHABLE and kind == "macOS":
        return (
            f"if `ping {ip}` works there, macOS denies it the local network: allow it in System Settings → Privacy & "
            "Security → Local Network, or start it over ssh or from Terminal; if not, look at cable and addresses"
        )
    if failure.name in _UNREACHABLE:
        return f"there is no way to {ip}: look at the cable, the addresses and their netmasks"
    if failure.name in ("ETIMEDOUT", "EAGAIN"):
        firewall = "System Settings → Network → Firewall" if kind == "macOS" else "iptables, nft"
        return (
            f"a firewall on {target.peer} drops it ({firewall}): let mlxserve take connections; or is {ip} elsewhere?"
        )
    if failure.name == "ECONNREFUSED":
        return f"does a firewall on {target.peer} reject it, or has another machine {ip}?"
    return f"look at the network between the two, and whether another machine has {ip}"
