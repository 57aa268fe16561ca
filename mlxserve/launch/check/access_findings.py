"""What is found on the way to a host: ssh, and the program there."""

from __future__ import annotations

from collections.abc import Iterator

from mlxserve.launch.check.finding import Finding
from mlxserve.launch.check.messages import Facts
from mlxserve.launch.check.visit import Trouble, Visit

_OWN_WORDS = "mlxserve: error: "
"""How the program, or what unpacks it, begins a sentence on why it ends."""


def ssh(visit: Visit) -> Iterator[Finding]:
    """Whether the host is reached, and without a password."""
    trouble = visit.trouble
    if visit.is_here:
        yield Finding(visit.label, "ssh", "ok", "is this machine: not needed")
    elif trouble and trouble.kind == "unreached":
        advice = _way_in(trouble.complaint, visit.host.ssh)
        yield Finding(visit.label, "ssh", "error", f"not reached: {trouble.complaint}", advice)
    elif trouble and trouble.kind == "silent" and visit.facts is None:
        yield Finding(
            visit.label, "ssh", "error", trouble.complaint,
            f"does `ssh {visit.host.ssh} true` end soon? If so, does `{visit.program} version` there?",
        )  # fmt: skip
    else:
        yield Finding(visit.label, "ssh", "ok", "reached without a password")


def program(visit: Visit, build: str, place: str) -> Iterator[Finding]:
    """Whether the host has `build`, which is that of `place`: "here" or another host's name."""
    advice = _getting_it_there(build)
    match visit:
        case Visit(trouble=Trouble(kind="broken", complaint=complaint)) if complaint.startswith(_OWN_WORDS):
            message = f"{visit.program} does not start: {complaint.removeprefix(_OWN_WORDS)}"
            yield Finding(visit.label, "program", "error", message, "mend that there, then check again")
        case Visit(trouble=Trouble(kind="missing")):
            yield Finding(visit.label, "program", "error", f"there is no {visit.program}", advice)
        case Visit(trouble=Trouble(kind="broken", complaint=complaint)):
            message = f"{visit.program} does not answer: {complaint}"
            yield Finding(visit.label, "program", "error", message, f"is it this version? {advice}")
        case Visit(trouble=Trouble(kind="silent", complaint=complaint), facts=facts) if facts or visit.is_here:
            yield Finding(visit.label, "program", "error", complaint, "start again; is the machine overloaded?")
        case Visit(facts=Facts(build=there)) if there != build:
            message = f"build {there}, but {build} {place}: the ranks would refuse each other"
            yield Finding(visit.label, "program", "error", message, advice)
        case Visit(facts=Facts()):
            yield Finding(visit.label, "program", "ok", f"build {build}")


def _way_in(complaint: str, name: str) -> str:
    """What to do about ssh's own complaint."""
    for sign, advice in _WAYS_IN.items():
        if sign.lower() in complaint.lower():
            return advice.format(name=name)
    return f"`ssh {name} true` must work without a password"


_WAYS_IN = {
    "Permission denied": "run `ssh-copy-id {name}` here, then `ssh {name} true` must work without a password",
    "Host key verification failed": "run `ssh {name} true` here once and accept its key; if {name} was set up anew, "
    "`ssh-keygen -R {name}` first",
    "Could not resolve": "name its address in ~/.ssh/config here, or try {name}.local",
    "Connection refused": "switch on Remote Login there (System Settings → General → Sharing)",
    "timed out": "is {name} switched on, awake and in the same network?",
    "is unreachable": "is {name} switched on, and its cable in? `ssh {name} true` must work",
    "No route to host": "is {name} switched on, awake and in the same network?",
    "not installed": "install OpenSSH's client",
}


def _getting_it_there(build: str) -> str:
    if build.startswith("source-"):
        return "install the same version at the same path there, or name its path with --program"
    return "copy this one there: `mlxserve check --deploy …`, or name its path with --program"
