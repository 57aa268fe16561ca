"""Copies of this program on the other hosts: made where it is missing or another one, before anything is started.

A copy is written beside its place, checked by its digest, and moved there in one step. So a program that runs keeps its
file (macOS kills programs whose file is overwritten), and a copy cut short leaves what was there before.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import msgspec

from mlxserve.bundle import is_frozen, packed_file
from mlxserve.errors import UserError
from mlxserve.launch.command import is_here, quoted
from mlxserve.launch.hostfile import Host
from mlxserve.launch.progress import Progress
from mlxserve.launch.remote import TIMED_OUT, Answer, run_on, unreached
from mlxserve.launch.signals import run_unless_signalled

PIECE = 1 << 18
SLOWEST = 250_000
"""Bytes a second under which a copy is given up."""
NO_DIGEST, NOT_A_FILE, CUT_SHORT, NOT_RUN = 81, 82, 83, 84

DIGEST = f"""\
export LC_ALL=C
if command -v sha256sum > /dev/null; then sum=(sha256sum); else sum=(shasum -a 256); fi
command -v "${{sum[0]}}" > /dev/null || exit {NO_DIGEST}
digest() {{ "${{sum[@]}}" | cut -c -64; }}"""

ASK = f"""\
{DIGEST}
if [ -e "$target" ] && [ ! -f "$target" ]; then exit {NOT_A_FILE}; fi
uname -sm
found=none
if [ -r "$target" ]; then found=$(digest < "$target"); fi
if [ "$found" = "$wanted" ] && [ ! -x "$target" ]; then
    chmod 755 "$target" || found=none
    [ $found = none ] || [ -x "$target" ] || exit {NOT_RUN}
fi
echo $found"""

COPY = f"""\
{DIGEST}
umask 022
mkdir -p -- "$(dirname -- "$target")" || exit
new=$(mktemp "$target.new-XXXXXX") || exit
trap 'rm -f -- "$new"' EXIT
trap 'exit 1' HUP INT TERM
printf '#!/bin/sh\\n' > "$new" && chmod 700 "$new" || exit
"$new" || exit {NOT_RUN}
cat > "$new" || exit
[ "$(digest < "$new")" = "$wanted" ] || exit {CUT_SHORT}
chmod 755 "$new" && mv -f -- "$new" "$target\""""


class File(msgspec.Struct, frozen=True):
    """What is copied: a file of this machine, its content's SHA-256, and where it goes on the hosts."""

    source: Path
    size: int
    digest: str
    target: str

    @property
    def preface(self) -> str:
        """The variables of the scripts."""
        return f"target={quoted(self.target)}\nwanted={self.digest}\n"


def this_binary() -> Path:
    """The file to copy: the one this program came from. Raises UserError where it did not come from one."""
    if file := packed_file():
        return file
    where = "from its unpacked folder" if is_frozen() else "from Python: make the file with `make binary`"
    raise UserError(
        f"--deploy copies the one-file program, but this runs {where}; start that file, as in "
        "`dist/mlxserve launch --deploy …`"
    )


def deploy(hosts: tuple[Host, ...], target: str, source: Path) -> None:
    """Give each host the file `source` as `target`, unless it has it. Raises UserError, which tells of every host."""
    if "/" not in target:
        raise UserError(f"--deploy needs a path for --program, such as ~/{target}, not a name alone")
    try:
        run_unless_signalled(_to_all(_apart(hosts, target, source), _file(source, target)))
    except OSError as error:
        raise UserError(f"--deploy cannot read {source}: {error.strerror}") from error


def _apart(hosts: tuple[Host, ...], target: str, source: Path) -> list[Host]:
    """The hosts to look at: not twice the same, and not the one where `target` is `source` itself."""
    own = os.path.realpath(os.path.expanduser(target)) == os.path.realpath(source)
    return [host for host in {host.ssh: host for host in hosts}.values() if not (own and is_here(host))]


def _file(source: Path, target: str) -> File:
    with source.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
        return File(source, os.fstat(content.fileno()).st_size, digest, target)


async def _to_all(hosts: list[Host], file: File) -> None:
    progress = Progress(file.size)
    outcomes = await asyncio.gather(*(_to(host, file, progress) for host in hosts), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and not isinstance(outcome, UserError):
            raise outcome
    failures = [str(outcome) for outcome in outcomes if outcome is not None]
    if failures:
        raise UserError("\n  ".join(["--deploy failed:", *failures] if len(failures) > 1 else failures))


async def _to(host: Host, file: File, progress: Progress) -> None:
    answer = await run_on(host, file.preface + ASK)
    if answer.code:
        raise UserError(_failure(host, file, answer))
    machine, digest = answer.output.splitlines()[-2:]
    if digest == file.digest:
        progress.done(host.ssh, "has this build already")
        return
    own = f"{os.uname().sysname} {os.uname().machine}"
    if machine != own:
        raise UserError(f"{host.ssh} is {machine}, but this program is for {own}: it needs the one made for it")
    await _copy(host, file, progress)


async def _copy(host: Host, file: File, progress: Progress) -> None:
    began = time.monotonic()
    try:
        async with aclosing(_pieces(host, file, progress)) as pieces:
            answer = await run_on(host, file.preface + COPY, pieces, timeout=60 + file.size / SLOWEST)
    finally:
        progress.drop(host.ssh)
    if answer.code:
        raise UserError(_failure(host, file, answer))
    progress.done(host.ssh, f"copied {file.size / 1e6:.0f} MB in {time.monotonic() - began:.1f} s")


async def _pieces(host: Host, file: File, progress: Progress) -> AsyncGenerator[bytes, None]:
    moved = 0
    with file.source.open("rb") as content:
        while piece := content.read(PIECE):
            yield piece
            moved += len(piece)
            progress.moved(host.ssh, moved)


def _failure(host: Host, file: File, answer: Answer) -> str:
    """A sentence on why `host` has not got the file, and what to do."""
    if not answer.reached:
        return unreached(host, answer)
    if answer.code == TIMED_OUT:
        return f"{host.ssh}: {answer.complaint}: start again when it is less busy (nothing was changed there)"
    if answer.code == NO_DIGEST:
        return f"{host.ssh} has neither sha256sum nor shasum: copy {file.source} to {file.target} there by other means"
    if answer.code == NOT_A_FILE:
        return f"{host.ssh}: {file.target} is no file there: name the file's own path with --program"
    if answer.code == CUT_SHORT:
        return f"{host.ssh}: what arrived is not what was sent: start again (nothing was changed there)"
    if answer.code == NOT_RUN:
        return (
            f"{host.ssh}: no program can be run from the folder of {file.target} there, as if it were mounted noexec: "
            "name a path elsewhere with --program"
        )
    return f"{host.ssh}: cannot write {file.target}: {_cause(answer.complaint)}"


def _cause(complaint: str) -> str:
    line = complaint.splitlines()[-1] if complaint else "no reason was given"
    for sign, remedy in REMEDIES.items():
        if sign in line:
            return f"{sign.lower()}: {remedy}"
    return line


REMEDIES = {
    "No space left on device": "free some space there",
    "Disk quota exceeded": "free some space there",
    "Permission denied": "name a path that its user can write with --program",
    "Read-only file system": "name a path that its user can write with --program",
    "Not a directory": "name another path with --program",
}
