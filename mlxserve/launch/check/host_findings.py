"""What is found on a host by itself, and in comparison with the first: its system, and what it has."""

from __future__ import annotations

from collections.abc import Iterator

from mlxserve.launch.check.finding import Finding, size, version_of
from mlxserve.launch.check.messages import Facts, Missing, System
from mlxserve.launch.check.visit import Visit

RDMA_SINCE = "26.2"
"""The macOS that brought RDMA over Thunderbolt (Apple's technical note 3205)."""
_LITTLE_MEMORY = 1e9
_LITTLE_DISK = 1e9


def system(visit: Visit, first: System | None, is_jaccl: bool) -> Iterator[Finding]:
    """Which system; whether it is new enough, and the same as the first host's."""
    if visit.facts:
        own = visit.facts.system
        yield _unfit(visit.label, own, first or own, is_jaccl) or Finding(visit.label, "system", "ok", _name(own))
    elif visit.trouble and visit.trouble.bare:
        yield Finding(visit.label, "system", "ok", _bare_name(visit.trouble.bare))


def _unfit(label: str, own: System, first: System, is_jaccl: bool) -> Finding | None:
    """What is wrong with a host's system, if anything is."""
    other = f"{_name(own)}, but the first host has {_name(first)}"
    if own.minimum and own.version and version_of(own.version) < version_of(own.minimum):
        message = f"{_name(own)}, but this build needs macOS {own.minimum} or later"
        return Finding(label, "system", "error", message, "update macOS there, or use the build for older ones")
    if (own.kind, own.machine) != (first.kind, first.machine):
        return Finding(label, "system", "error", other, "use machines of one kind")
    if is_jaccl and (own.version, own.build) != (first.version, first.build):
        return Finding(label, "system", "error", other, "RDMA needs the same on all: update all hosts to one version")
    if own.version != first.version:
        return Finding(label, "system", "warning", other, "better update all hosts to one version")
    return None


def memory(visit: Visit, facts: Facts) -> Iterator[Finding]:
    """How much there is."""
    message = f"{size(facts.memory)}, of which {size(facts.free_memory)} free"
    if facts.free_memory < _LITTLE_MEMORY:
        yield Finding(visit.label, "memory", "warning", message, "end programs that are not needed there")
    else:
        yield Finding(visit.label, "memory", "ok", message)


def disk(visit: Visit, facts: Facts) -> Iterator[Finding]:
    """Whether there is room for what is downloaded or converted."""
    for place in facts.disks:
        message = f"{size(place.free)} free for {place.folder}"
        if not place.writable:
            message = f"{place.folder} cannot be written"
            yield Finding(visit.label, "disk", "warning", message, "mend its permissions, or set XDG_CACHE_HOME")
        elif place.free < _LITTLE_DISK:
            yield Finding(visit.label, "disk", "warning", message, "make room there, or set HF_HOME and XDG_CACHE_HOME")
        else:
            yield Finding(visit.label, "disk", "ok", message)


def environment(visit: Visit, facts: Facts) -> Iterator[Finding]:
    """The variable that deadlocks Macs, where the host's own environment sets it."""
    if facts.harmful:
        yield Finding(
            visit.label, "environment", "warning",
            f"MLX_METAL_FAST_SYNCH is {facts.harmful!r}, which deadlocks Macs and can hang a GPU until a reboot",
            "mlxserve does not pass it on, other programs do: take it out of the shell's start-up files there",
        )  # fmt: skip


def sleeping(visit: Visit, facts: Facts) -> Iterator[Finding]:
    """Whether the machine falls asleep by itself."""
    if facts.sleep_minutes:
        message = f"sleeps after {facts.sleep_minutes} idle minutes"
        yield Finding(visit.label, "sleep", "warning", message, "run `sudo pmset -a sleep 0` there")


def rdma(visit: Visit, facts: Facts) -> Iterator[Finding]:
    """Whether the devices that the hosts file names are there."""
    if not visit.question.rdma:
        return
    named = sorted({name for names in visit.host.rdma for name in ([names] if isinstance(names, str) else names or [])})
    own = facts.system
    if own.kind != "macOS" or version_of(own.version) < version_of(RDMA_SINCE):
        message = f"{own.kind} {own.version} has no RDMA over Thunderbolt"
        advice = f"update to macOS {RDMA_SINCE} or later, or use --backend ring"
        yield Finding(visit.label, "RDMA", "error", message, advice)
    elif own.minimum and version_of(own.minimum) < version_of(RDMA_SINCE):
        message = f"this build, for macOS {own.minimum} and later, has no RDMA"
        advice = "use the build for macOS 26 on all hosts, or --backend ring"
        yield Finding(visit.label, "RDMA", "error", message, advice)
    elif not facts.rdma:
        yield Finding(
            visit.label, "RDMA", "error", "has no RDMA device",
            "start macOS Recovery, run `rdma_ctl enable` in its Terminal, restart (needs Thunderbolt 5); "
            "or use --backend ring",
        )  # fmt: skip
    elif missing := [name for name in named if name not in facts.rdma]:
        yield Finding(
            visit.label, "RDMA", "error", f"has no {', '.join(missing)}, but {', '.join(facts.rdma)}",
            "mend its rdma in the hosts file; `ibv_devices` lists the names",
        )  # fmt: skip
    else:
        yield Finding(visit.label, "RDMA", "ok", f"has {', '.join(named)}")


def _bare_name(bare: Missing) -> str:
    kind = "macOS" if bare.system == "Darwin" else bare.system
    parts = " ".join(filter(None, (kind, bare.version, bare.machine)))
    return f"{parts}, {size(bare.free_kilobytes * 1024)} free in the home folder"


def _name(system: System) -> str:
    return " ".join(filter(None, (system.kind, system.version, f"({system.build})", system.machine)))
