"""The bash script that runs one rank, on this machine or another, and sees to it that nothing of it stays behind.

The script's standard input is its order channel, after the lines with the rank's secrets, if it has any. The launcher
holds it open, and writes a line to it to end the rank; where the launcher dies or the connection drops, it closes.
Either way the guard in the script sends SIGHUP to the rank, and SIGKILL four seconds later or on a second line. A line
that says "drain" comes before where the rank may finish what it has begun: then the guard sends SIGTERM first. The
program's own standard input is a pipe that the guard holds open. So nothing depends on a terminal, on ssh's way of
passing signals, or on the program's good will.
"""

from __future__ import annotations

import shlex

from mlxserve.errors import BrokenBuild
from mlxserve.launch.command import UNREACHED, quoted
from mlxserve.launch.ranks import HARMFUL, Rank
from mlxserve.place import CONTROL, FALLBACK

PATIENCE = 4
"""Seconds from SIGHUP to SIGKILL."""

INHERITED = (
    HARMFUL,
    *("MLX_RANK", "MLX_WORLD_SIZE", "MLX_HOSTFILE", "MLX_IBV_DEVICES", "MLX_JACCL_COORDINATOR", "MLX_JACCL_RING"),
    CONTROL,
    FALLBACK,
)
"""What the rank must not take over from the shell that starts it."""

GUARD = f"""\
exec 3<&0
trap : HUP INT TERM PIPE
scratch=$(mktemp -d "${{TMPDIR:-/tmp}}/mlxserve-XXXXXX") || exit 1
guard() {{
    exec <&3 3<&- 2>/dev/null
    trap '' HUP INT TERM
    read -r order; closed=$?
    kill -0 $$ || exit 0
    if [ "$order" = drain ]; then
        kill -TERM -- -$$
        read -r order; closed=$?
        kill -0 $$ || exit 0
    fi
    kill -HUP -- -$$
    if [ $closed = 0 ]; then read -r -t {PATIENCE} order; else sleep {PATIENCE}; fi
    kill -0 $$ || exit 0
    rm -rf "$scratch"
    kill -KILL -- -$$
}}"""

MISSING = 127
"""The exit code where the program is not there, as bash has it."""
UNFIT = 126
"""The same where it is there, but cannot be run."""

OWN_CODE = f"code=$?; [ $code != {UNREACHED} ] || code={BrokenBuild.exit_code}"
"""A program may end with ssh's own exit code: PyInstaller's bootloader does where its files are damaged."""

FIND = f"""\
if ! command -v -- "${{command[0]}}" > /dev/null; then
    rm -rf -- ${{scratch:+"$scratch"}}
    [ ! -e "${{command[0]}}" ] || exit {UNFIT}
    exit {MISSING}
fi"""

RUN = f"""\
{FIND}
"${{command[@]}}" < <(guard) 3<&-
{OWN_CODE}
trap '' HUP INT TERM PIPE
rm -rf "$scratch"
exit $code"""


PLAIN = f"""\
{FIND}
"${{command[@]}}"
{OWN_CODE}
exit $code"""
"""Without a guard: the program reads the standard input itself."""


def plain_script_of(command: list[str], folder: str) -> str:
    """The script that runs `command`, in `folder` where that exists, and leaves its ending to it."""
    return "\n".join([*_settling(folder), _named(command), PLAIN])


def script_of(rank: Rank, command: list[str], folder: str) -> str:
    """The script that runs `command` as `rank`, in `folder` where that exists. Its exit code is the command's."""
    lines = [
        *(f"IFS= read -r {name} && export {name}" for name in rank.secrets),
        GUARD,
        *_settling(folder),
        *(f"export {name}={shlex.quote(value)}" for name, value in rank.environment.items()),
    ]
    for name, content in rank.files.items():
        lines += [f'export {name}="$scratch/{name}"', f'printf %s {shlex.quote(content)} > "${name}"']
    return "\n".join([*lines, _named(command), RUN])


def _settling(folder: str) -> list[str]:
    return [
        f"if [ -d {shlex.quote(folder)} ]; then cd {shlex.quote(folder)}; fi",
        f"unset {' '.join(INHERITED)}",
    ]


def _named(command: list[str]) -> str:
    return f"command=({quoted(command[0])} {shlex.join(command[1:])})"
