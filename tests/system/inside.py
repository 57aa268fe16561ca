"""Run a command inside the namespaces of a host of the testbed: `python inside.py PID FOLDER COMMAND…`.

This process stays outside, in front of the command: it passes signals on to the command's process group, as a terminal
does, ends as the command ends, and takes it along when it is killed. (nsenter does none of that with a PID namespace.)
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
PR_SET_PDEATHSIG = 1


def enter(pid: int) -> None:
    """Join the namespaces that process `pid` made; a PID namespace takes in children only."""
    namespaces = [
        os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        for name in ("uts", "ipc", "net", "pid_for_children", "mnt")
    ]
    for namespace in namespaces:
        if LIBC.setns(namespace, 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def execute(folder: str, command: list[str]) -> None:
    """Become `command`, in a session of its own."""
    os.setsid()
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    os.chdir(folder)
    os.execv("/usr/bin/env", ["env", "-u", "LC_CTYPE", *command])  # Python sets it for itself


def wait_for(child: int) -> int:
    """Pass signals on until `child` ends; returns its exit code, 128 + n for signal n."""
    signals = {*PASSED_ON, signal.SIGCHLD}
    while True:
        number = signal.sigwait(signals)
        if number != signal.SIGCHLD:
            os.killpg(child, number)
            continue
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def main() -> None:
    pid, folder, *command = sys.argv[1:]
    signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    enter(int(pid))
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        execute(folder, command)
    sys.exit(wait_for(child))


main()
