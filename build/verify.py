"""Check a finished application: `python build/verify.py dist/mlxserve`. One line a rule; exit code 1 if any is broken.

Takes the folder that build/freeze.py makes, or the one file that it is packed into, which then unpacks itself. What
can be told from the files alone is told on any machine; on the platform that the application is for, it is run as well.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import content_rules
import linux_rules
import mac_rules
from frozen import Frozen
from target import requirement

Rule = Callable[[Frozen], Iterator[str]]

_LONGEST_SECONDS = 120
"""That a command of the program may take: a Mac looks at every file before its first start."""
_MOST_LINES = 5
"""Of what breaks one rule."""


def signed_for_macos(frozen: Frozen) -> Iterator[str]:
    """codesign, Apple's own check, accepts the program and every library."""
    for path in (frozen.executable, *frozen.images):
        checked = subprocess.run(["codesign", "--verify", "--strict", path], capture_output=True, text=True)
        if checked.returncode:
            yield f"{checked.stderr.strip()}: sign it again with `codesign -s - --force {path}`"


def starts(frozen: Frozen) -> Iterator[str]:
    """The program starts."""
    yield from _failure(frozen, "version")


def computes(frozen: Frozen) -> Iterator[str]:
    """MLX computes in it: on a Mac, the GPU's programs are found."""
    yield from _failure(frozen, "check")


CONTENT: tuple[Rule, ...] = (
    content_rules.models,
    content_rules.hidden,
    content_rules.unwanted,
    content_rules.tests,
    content_rules.developers,
    content_rules.metadata,
)
MAC: tuple[Rule, ...] = (
    mac_rules.executable,
    mac_rules.architecture,
    mac_rules.one_libmlx,
    mac_rules.metallib,
    mac_rules.metallib_beside_libmlx,
    mac_rules.links,
    mac_rules.libraries,
    mac_rules.rpaths,
    mac_rules.minimum,
    mac_rules.jaccl,
    mac_rules.signatures,
)
LINUX: tuple[Rule, ...] = (
    linux_rules.executable,
    linux_rules.one_libmlx,
    linux_rules.libraries,
    linux_rules.links,
)
HERE: dict[str, tuple[Rule, ...]] = {
    "darwin": (signed_for_macos, starts, computes),
    "linux": (starts, computes),
}
"""These run only on the platform that the application is for."""


def _failure(frozen: Frozen, command: str) -> Iterator[str]:
    try:
        ran = subprocess.run([frozen.executable, command], capture_output=True, text=True, timeout=_LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        yield f"`{frozen.executable} {command}` has not ended within {_LONGEST_SECONDS} s"
        return
    if ran.returncode:
        yield f"`{frozen.executable} {command}` ended with {ran.returncode}: {(ran.stdout + ran.stderr).strip()}"


def rules(platform: str) -> tuple[Rule, ...]:
    """All that apply to an application for `platform`, on this machine."""
    of_platform = MAC if platform == "darwin" else LINUX
    return (*of_platform, *CONTENT, *(HERE[platform] if platform == sys.platform else ()))


def broken(frozen: Frozen, applied: tuple[Rule, ...]) -> dict[str, list[str]]:
    """What breaks each rule, by the rule's name. A rule that needs a file that cannot be read is broken, too."""
    found = {}
    for rule in applied:
        try:
            found[rule.__name__] = list(rule(frozen))
        except (OSError, ValueError, RuntimeError) as error:
            found[rule.__name__] = [f"cannot be checked: {error}"]
    return found


def folder_of(application: Path) -> Path:
    """The folder of the application: itself, or that which the one file unpacks itself into."""
    if application.is_dir():
        return application
    if not application.exists():
        raise SystemExit(f"there is no {application}: run `make binary`")
    ran = subprocess.run([application.resolve(), "version"], capture_output=True, text=True)
    unpacked = re.search(r"^unpacked (.+)$", ran.stdout, re.MULTILINE)
    if ran.returncode or not unpacked:
        raise SystemExit(f"`{application} version` does not say where it is unpacked: {ran.stdout}{ran.stderr}")
    return Path(unpacked[1])


def main() -> int:
    """Check, print, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("application", type=Path)
    parser.add_argument("--platform", choices=sorted(HERE), default=sys.platform)
    args = parser.parse_args()
    frozen = Frozen(folder_of(args.application), args.platform)
    applied = rules(args.platform)
    found = broken(frozen, applied)
    for rule in applied:
        purpose = (rule.__doc__ or "").splitlines()[0]
        print(f"{'FAIL' if found[rule.__name__] else 'ok  '}  {purpose}")
        for fault in found[rule.__name__][:_MOST_LINES]:
            print(f"      {fault}")
        if len(found[rule.__name__]) > _MOST_LINES:
            print(f"      and {len(found[rule.__name__]) - _MOST_LINES} more")
    if any(found.values()):
        return 1
    needs = requirement(frozen.folder)
    system = "macOS" if needs.platform == "darwin" else "Linux with glibc"
    print(f"needs {system} {needs.oldest} or later, {needs.architecture}{', has JACCL' if needs.has_jaccl else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
