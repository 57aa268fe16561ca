"""The command lines: what a rank runs, and how its script is started on its host."""

from __future__ import annotations

import getpass
import os
import re
import shlex
import shutil
import socket
import sys

from mlxserve.bundle import binary
from mlxserve.errors import UserError
from mlxserve.launch.hostfile import Host, is_loopback

SSH = ("ssh", "-T", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "-o", "ConnectTimeout=15")
ALIVE = ("-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3")
"""Lets ssh end within a minute where the host is gone without a word."""
UNREACHED = 255
"""ssh's own exit code."""


def program(named: str = "") -> list[str]:
    """The program that every host runs: the one named, else this one, by the path it has here.

    A name without a slash is left to each host's PATH.
    """
    if named:
        is_path = "/" in named or os.path.exists(named)
        return [os.path.normpath(os.path.join(folder(), named)) if is_path and not named.startswith("~") else named]
    if file := binary():
        return [os.path.abspath(file)]
    script = shutil.which(sys.argv[0])
    if script and os.path.basename(script) == "mlxserve":
        return [os.path.abspath(script)]
    return [sys.executable, "-m", "mlxserve"]


def folder() -> str:
    """The folder that this was started in. Raises UserError where it is gone."""
    try:
        return os.getcwd()
    except OSError as error:
        raise UserError(f"the folder that this runs in cannot be used ({error.strerror}): change to another") from error


def anywhere(path: str) -> str:
    """`path` as it is meant on every host: what lies in this user's home folder lies in that of each host's user."""
    home = os.path.join(os.path.expanduser("~"), "")
    return f"~/{path.removeprefix(home)}" if len(home) > 1 and path.startswith(home) else path


def quoted(path: str) -> str:
    """`path`, as it is meant on every host, as a word for bash there."""
    home, slash, rest = anywhere(path).partition("/")
    if not re.fullmatch(r"~[\w.-]*", home):
        return shlex.quote(path)
    return home + slash + (shlex.quote(rest) if rest else "")


def starting(host: Host, script: str, notices_loss: bool = False) -> list[str]:
    """The command that runs `script` on `host`; with `notices_loss` it ends soon after the host is gone."""
    if is_here(host):
        return ["bash", "-c", script]
    return [*SSH, *(ALIVE if notices_loss else ()), host.ssh, f"exec bash -c {shlex.quote(script)}"]


def is_here(host: Host) -> bool:
    """Whether `host` is this machine, so that it needs no ssh."""
    user, at, name = host.ssh.rpartition("@")
    if at and user != _user():
        return False
    names = {socket.gethostname().lower(), socket.gethostname().partition(".")[0].lower()}
    if is_loopback(name) or name.lower() in names or name.lower().removesuffix(".local") in names:
        return True
    return any(is_own_address(ip) for ip in (name, *host.ips) if not is_loopback(ip))


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an id that has no name
        return ""


def mpirun(
    hosts: tuple[Host, ...], environment: dict[str, str], command: list[str], passed: tuple[str, ...] = ()
) -> list[str]:
    """The mpirun command that starts `command` on all hosts, as `mlx.launch` has it.

    The variables named in `passed` are taken from mpirun's own environment.
    """
    path = shutil.which("mpirun")
    if path is None:
        raise UserError("the mpi backend needs Open MPI's mpirun, which is not installed on this machine")
    from mlx._distributed_utils.launch import get_mpi_libname

    variables = dict(environment)
    if library := get_mpi_libname():
        folder = os.path.join(os.path.dirname(os.path.dirname(path)), "lib")
        variables = {"DYLD_LIBRARY_PATH": folder, "MLX_MPI_LIBNAME": library, **variables}
    slots = ["--host", ",".join(f"{host.ssh}:1" for host in hosts)]
    exports = [word for name, value in variables.items() for word in ("-x", f"{name}={value}")]
    exports += [word for name in passed for word in ("-x", name)]
    return [path, *slots, *exports, "--", os.path.expanduser(command[0]), *command[1:]]


def is_own_address(ip: str) -> bool:
    """Whether an interface of this machine has the address: only then can a socket be bound to it."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((socket.inet_ntoa(socket.inet_aton(ip)), 0))
    except OSError:
        return False
    return True
