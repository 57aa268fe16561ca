"""The folders into which the binary unpacks itself (build/stub.sh): held while in use, removed when outdated.

Each process of the frozen application holds a shared lock on its folder's file `used`, which the stub touches at every
start. So a newer build can tell which folders nobody needs any more.
"""

from __future__ import annotations

import fcntl
import os
import platform
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path

_BUILD = re.compile(r"[0-9a-f]{12}")
_UNFINISHED = re.compile(r"\.(unpacking|removing)-(?P<host>.+)-(?P<pid>\d+)-\w+")
_USED = "used"
_STARTING_SECONDS = 10.0
"""From the stub's touch to the application's lock, generously."""


def hold(folder: Path) -> None:
    """Keep the unpacked `folder` from being removed for as long as this process lives."""
    with suppress(OSError):  # a folder that came about in another way
        fcntl.flock(os.open(folder / _USED, os.O_RDONLY), fcntl.LOCK_SH | fcntl.LOCK_NB)


def remove_outdated(folder: Path) -> None:
    """Remove what older builds than the unpacked `folder` left beside it and no process uses."""
    if not _BUILD.fullmatch(folder.name):
        return
    names: list[str] = []
    with suppress(OSError):
        names = os.listdir(folder.parent)
    for name in names:
        other = folder.with_name(name)
        with suppress(OSError):  # another user's, or gone meanwhile
            if _is_abandoned(other):
                shutil.rmtree(other)
            elif _BUILD.fullmatch(other.name) and other.stat().st_mtime < folder.stat().st_mtime:
                _remove_unused(other)


def _is_abandoned(folder: Path) -> bool:
    """Whether `folder` was being unpacked, or removed, by a process of this machine that is no more."""
    named = _UNFINISHED.fullmatch(folder.name)
    return named is not None and named["host"] == platform.node() and not _is_alive(int(named["pid"]))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _remove_unused(folder: Path) -> None:
    used = os.open(folder / _USED, os.O_RDONLY)
    try:
        fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if time.time() - os.fstat(used).st_mtime < _STARTING_SECONDS:
            return
        aside = folder.with_name(f".removing-{platform.node()}-{os.getpid()}-{folder.name}")
        folder.rename(aside)  # from one moment to the next: nobody sees half a build
        shutil.rmtree(aside)
    finally:
        os.close(used)
