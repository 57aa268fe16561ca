"""What a service runs: a command of this program, as the user who installs it has tried it."""

from __future__ import annotations

import math
import os
import pwd
import re
import shlex
import sys
from collections.abc import Mapping

import msgspec

from mlxserve.config import Settings
from mlxserve.errors import UserError
from mlxserve.launch.command import folder, program

PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/opt/homebrew/bin"
KEPT = ("HF_ENDPOINT", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "XDG_CACHE_HOME")
"""Variables that say where models are. No secrets: everybody may read the file of a service."""


ENDING_SECONDS = 15
"""What ending takes beyond the time that answers which have begun are given."""


class Job(msgspec.Struct, frozen=True):
    """A command line, the user and the folder it runs as and in, and what it finds in its environment."""

    name: str
    command: tuple[str, ...]
    folder: str
    user: str
    uid: int
    gid: int
    home: str
    environment: dict[str, str]
    drain_seconds: float = Settings().drain_seconds
    """How long it may go on after SIGTERM to finish what it has begun."""

    @property
    def stop_seconds(self) -> int:
        """What it takes at most to end: whoever stops it waits so long before SIGKILL."""
        return math.ceil(self.drain_seconds) + ENDING_SECONDS


def service_name(name: str) -> str:
    """`mlxserve`, or `mlxserve-NAME`: so no name means another's service. Raises UserError."""
    if name and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,60}", name):
        raise UserError(f"--name {name!r} must be of letters, digits, dots, hyphens and underscores, 61 at most")
    return f"mlxserve-{name}" if name else "mlxserve"


def job_for(
    name: str,
    words: list[str],
    environ: Mapping[str, str] = os.environ,
    drain_seconds: float = Settings().drain_seconds,
) -> Job:
    """The job that runs `mlxserve words…` as it would run here and now. Raises UserError."""
    account = _account(environ)
    job = Job(
        name=service_name(name),
        command=(*this_program(), *words),
        folder=folder(),
        user=account.pw_name,
        uid=account.pw_uid,
        gid=account.pw_gid,
        home=account.pw_dir,
        environment={
            "HOME": account.pw_dir,
            "LOGNAME": account.pw_name,
            "PATH": PATH,
            "USER": account.pw_name,
            **{name: environ[name] for name in KEPT if environ.get(name)},
        },
        drain_seconds=drain_seconds,
    )
    _check(job)
    return job


def this_program() -> list[str]:
    """The words that start this program from anywhere on this machine."""
    first, *rest = program()
    return [os.path.abspath(os.path.expanduser(first)), *rest]


def with_sudo() -> str:
    """The command line that runs now, as root."""
    return shlex.join(["sudo", *this_program(), *sys.argv[1:]])


def _account(environ: Mapping[str, str]) -> pwd.struct_passwd:
    """Whose service it is: with sudo, that of who called it. Raises UserError where this machine has no such user."""
    caller = environ.get("SUDO_USER") if os.geteuid() == 0 else ""
    try:
        return pwd.getpwnam(caller) if caller else pwd.getpwuid(os.geteuid())
    except KeyError as error:
        raise UserError(
            f"a service needs a user that has an account, but {caller or os.geteuid()} has none on this machine"
        ) from error


def _check(job: Job) -> None:
    for text in (*job.command, job.folder, *job.environment.values()):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"{text!r} is not UTF-8, which a service's file must be") from error
    if "\n" in job.folder:
        raise UserError(f"a service cannot run in {job.folder!r}: its name has a line break")
