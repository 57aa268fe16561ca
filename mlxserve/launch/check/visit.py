"""What the check knows of one host: what it asked, and what came back."""

from __future__ import annotations

from typing import Literal

import msgspec

from mlxserve.launch.check.messages import Facts, Missing, Question, Reach
from mlxserve.launch.hostfile import Host


class Trouble(msgspec.Struct, frozen=True):
    """Why a host's probe gave no answer: not reached by ssh, silent, no mlxserve there, or one that does not answer."""

    kind: Literal["unreached", "silent", "missing", "broken"]
    complaint: str = ""
    bare: Missing | None = None


class Target(msgspec.Struct, frozen=True):
    """A peer's port that a rank connects to."""

    peer: str
    address: str
    purpose: str
    """"ring", "control" or "coordinator"."""


class Visit(msgspec.Struct, frozen=True):
    """One host."""

    label: str
    host: Host
    question: Question
    is_here: bool = False
    """This machine, which needs no ssh."""
    program: str = ""
    facts: Facts | None = None
    trouble: Trouble | None = None
    targets: tuple[Target, ...] = ()
    reached: tuple[Reach, ...] = ()
    """In the order of `targets`."""
    clock: float | None = None
    """Seconds that the host's clock is ahead of this machine's."""
